#!/bin/bash
# tests/test_cuda_check.sh BROKER CHECK
#
# The whole way of a frame in GPU memory: the broker on a software renderer whose Vulkan calls are
# validated, and consumers over the CUDA double in LD_LIBRARY_PATH. Also that a broker which is broken on
# purpose is noticed. 77: there is no Vulkan device here.
set -u
broker=$1 check=$2
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
trap 'kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/log" 2>/dev/null
	exit 1
}

# start OPTIONS...: until it listens.
start() {
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --gpu-validation 1 "$@" \
		--source g=pattern:640x360@60:BGRx:gpu --source n=pattern:641x361@60:NV12:gpu \
		--source h=pattern:320x240@60 --source l=pattern:320x240@0:RGBA:gpu 2>"$tmp/log" &
	pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && return
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	grep -q "it needs a GPU" "$tmp/log" && { echo "skipped: $(cat "$tmp/log")"; exit 77; }
	fail "the broker does not listen"
}

stop() {
	kill $pid
	wait $pid || fail "the broker ended with status $?"
}

# good NAME ARGUMENTS...: every frame is right.
good() {
	local name=$1
	shift
	timeout 60 "$check" -n 20 --fifo 4 "$@" >"$tmp/out" 2>&1 || fail "$name: exit status $?"
	grep -q "^20 frames, 0 wrong" "$tmp/out" || fail "$name"
	echo "ok   $name"
}

# says NAME TEXT: the last run said it.
says() {
	grep -q "$2" "$tmp/out" || fail "$1 does not say \"$2\""
	echo "ok   $1"
}

start
good "a GPU stream is imported into CUDA" --stream g
good "odd sizes and planes" --stream n
good "a host stream is uploaded for a CUDA consumer" --stream h
good "the next frame comes when every reader has given the last back" --stream l
good "frames are given back when the GPU has read them" --stream g --release-after
good "a GPU stream is read back for a consumer of host memory" --stream g --memory host
good "a timeline that cannot be had becomes complete frames" --stream g --readiness timeline
says "why it is not a timeline is said" "cannot export timeline semaphores"
grep -q "read back from the GPU straight into the sealed memory" "$tmp/log" ||
	fail "the log does not say how frames are read back"
stop

FAKE_CUDA_DEVICES=00000000-0000-0000-0000-000000000001,6d657361-3232-2e33-2e36-000000000000 \
	start
FAKE_CUDA_DEVICES=00000000-0000-0000-0000-000000000001 \
	timeout 60 "$check" -n 1 --stream g >"$tmp/out" 2>&1 && fail "another GPU's memory was imported"
says "memory of another GPU is refused" "another GPU"
stop

start --gpu-memory 1M
timeout 60 "$check" -n 1 --stream h >"$tmp/out" 2>&1 && fail "a view past the budget was made"
says "a view past the budget is refused with figures" "(--gpu-memory)"
good "and host memory goes on" --stream h --memory host
stop

# large, so that the copy takes longer than a reader
start --fault-gpu-early 1 --source b=pattern:3840x2160@30:BGRx:gpu
timeout 60 "$check" -n 60 --stream b >"$tmp/out" 2>&1 && fail "frames published too early were not noticed"
says "a frame that is published before its copy is done is noticed" "wrong stamp"
stop

start --fault-vulkan vkQueueSubmit=-4@60+
timeout 60 "$check" --stream g >"$tmp/out" 2>&1 && fail "a lost device was not noticed"
says "a lost device ends the view and names the call" "vkQueueSubmit: VK_ERROR_DEVICE_LOST"
good "and the broker's host streams live on" --stream h --memory host
kill $pid
wait $pid || fail "the broker ended with status $?"
