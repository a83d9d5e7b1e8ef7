#!/bin/bash
# tests/test_cuda_check.sh BROKER CHECK
#
# The whole way of a frame in GPU memory: the broker on a software renderer whose Vulkan calls are
# validated, and consumers over the CUDA double in LD_LIBRARY_PATH, or Vulkan. Also that a broker which is
# broken on purpose is noticed, where it was built so that it can be (SLUICE_FAULTS). 77: there is no Vulkan
# device here, which is a failure with SLUICE_TEST_MUST.
set -u
broker=$1 check=$2
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
host=
trap 'kill -9 $pid $host 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/log" 2>/dev/null
	exit 1
}

skip() {
	echo "skipped: $1"
	[ -z "${SLUICE_TEST_MUST:-}" ] || fail "and it must not be (SLUICE_TEST_MUST)"
	exit 77
}

small=(--source g=pattern:640x360@60:BGRx:gpu)
all=("${small[@]}" --source n=pattern:641x361@60:NV12:gpu --source h=pattern:320x240@60
	--source l=pattern:320x240@0:RGBA:gpu)

# start OPTIONS...: until it listens. CUDA's device is the broker's, whichever that is.
start() {
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --gpu-validation 1 "$@" 2>"$tmp/log" &
	pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	grep -q "it needs a GPU" "$tmp/log" && skip "$(cat "$tmp/log")"
	grep -q "listening on" "$tmp/log" || fail "the broker does not listen"
	FAKE_CUDA_DEVICES=$(grep -m 1 -oP ' uuid=\K\S+' "$tmp/log") || fail "the log does not name the GPU"
	export FAKE_CUDA_DEVICES
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

start "${all[@]}"
good "a GPU stream is imported into CUDA" --stream g
good "odd sizes and planes" --stream n
good "a host stream is uploaded for a CUDA consumer" --stream h
good "the next frame comes when every reader has given the last back" --stream l
good "frames are given back when the GPU has read them" --stream g --release-after
good "a GPU stream is imported into Vulkan" --stream g --memory vulkan
good "odd sizes and planes, in Vulkan" --stream n --memory vulkan
good "a host stream is uploaded for a Vulkan consumer" --stream h --memory vulkan
good "a GPU stream is read back for a consumer of host memory" --stream g --memory host
good "a timeline that cannot be had becomes complete frames" --stream g --readiness timeline
says "why it is not a timeline is said" "cannot export timeline semaphores"
grep -q "read back from the GPU straight into the sealed memory" "$tmp/log" ||
	fail "the log does not say how frames are read back"
FAKE_CUDA_DEVICES=00000000-0000-0000-0000-000000000001,$FAKE_CUDA_DEVICES \
	good "the device is found by UUID where CUDA's first is another" --stream g
FAKE_CUDA_DEVICES=00000000-0000-0000-0000-000000000001 \
	timeout 60 "$check" -n 1 --stream g >"$tmp/out" 2>&1 && fail "another GPU's memory was imported"
says "memory of another GPU is refused" "another GPU"
stop

start "${all[@]}" --gpu-memory 1M
timeout 60 "$check" -n 1 --stream h >"$tmp/out" 2>&1 && fail "a view past the budget was made"
says "a view past the budget is refused with figures" "(--gpu-memory)"
good "and host memory goes on" --stream h --memory host
stop

if ! "$broker" --help | grep -q -e --fault-vulkan; then
	echo "left out: what a broken broker does, as this one was built without SLUICE_FAULTS"
	exit 0
fi

# large, so that the copy takes longer than a reader
start --fault-gpu-early 1 --source b=pattern:3840x2160@30:BGRx:gpu
timeout 60 "$check" -n 60 --stream b >"$tmp/out" 2>&1 && fail "frames published too early were not noticed"
says "a frame that is published before its copy is done is noticed" "wrong stamp"
stop

# The 400th submission is some 6 seconds away: each frame of g is one, and a few were before.
start "${small[@]}" --source h=pattern:320x240@30 --slots 40 --fault-vulkan vkQueueSubmit=-4@400
"$check" --json --stream h --memory host --fifo 32 -t 120 >"$tmp/host" 2>&1 &
host=$!
timeout 60 "$check" --stream g >"$tmp/out" 2>&1 && fail "a lost device was not noticed"
says "a lost device ends the view and names the call" "vkQueueSubmit: VK_ERROR_DEVICE_LOST"
says "until then frames came, and were right" "^[1-9][0-9]* frames, 0 wrong"
for _ in $(seq 200); do
	[ "$(grep -c ' uuid=' "$tmp/log")" -ge 2 ] && break
	sleep 0.05
done
[ "$(grep -c ' uuid=' "$tmp/log")" = 2 ] || fail "the GPU was not opened again"
good "after that a host stream can be had in CUDA" --stream h
good "and a GPU stream" --stream g
kill -TERM $host 2>/dev/null || fail "the reader of host memory has ended: $(cat "$tmp/host")"
wait $host || fail "the reader of host memory: exit status $?: $(cat "$tmp/host")"
grep -q '"wrong":0,.*"missed":0,' "$tmp/host" || fail "the reader of host memory: $(cat "$tmp/host")"
echo "ok   and who read a host stream in host memory has missed nothing"
stop
