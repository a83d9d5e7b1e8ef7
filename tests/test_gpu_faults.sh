#!/bin/bash
# tests/test_gpu_faults.sh BROKER CHECK SLUICE
#
# A GPU that fails, once or for good: what has failed is tried again a few times, never in a tight loop,
# the reason names the call and its VkResult, and host memory goes on. The broker plants the faults itself
# (a test build); on a software renderer. 77: there is no Vulkan device here, which is a failure with
# SLUICE_TEST_MUST.
set -u
broker=$1 check=$2 sluice=$3
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
trap 'kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/log" 2>/dev/null
	exit 1
}

# start FAULT SOURCE...: until it listens.
start() {
	local fault=$1 sources=()
	shift
	for s; do sources+=(--source "$s"); done
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --fault-vulkan "$fault" "${sources[@]}" 2>"$tmp/log" &
	pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && return
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	if grep -q "it needs a GPU" "$tmp/log" && [ -z "${SLUICE_TEST_MUST:-}" ]; then
		echo "skipped: $(cat "$tmp/log")"
		exit 77
	fi
	fail "the broker does not listen"
}

stop() {
	kill $pid
	wait $pid || fail "the broker ended with status $?"
}

# reads NAME ARGUMENTS...: ten frames, all right.
reads() {
	local name=$1
	shift
	timeout 60 "$check" -n 10 "$@" >"$tmp/out" 2>&1 || fail "$name: exit status $?"
	echo "ok   $name"
}

# refused NAME TEXT ARGUMENTS...: it ends, soon, and says so.
refused() {
	local name=$1 text=$2
	shift 2
	timeout 60 "$check" "$@" >"$tmp/out" 2>&1
	[ $? = 1 ] || fail "$name: it did not end, or ended well"
	grep -q "$text" "$tmp/out" || fail "$name: it does not say \"$text\""
	echo "ok   $name"
}

# logged NAME TEXT [TIMES]
logged() {
	local n
	n=$(grep -c "$2" "$tmp/log")
	if [ -n "${3:-}" ]; then
		[ "$n" = "$3" ] || fail "$1: \"$2\" is $n times in the log, not $3"
	else
		[ "$n" -gt 0 ] || fail "$1: \"$2\" is not in the log"
	fi
	echo "ok   $1"
}

host=h=pattern:320x240@30
gpu=g=pattern:320x240@30:BGRx:gpu

# the third allocation is the first of the mirror's slots: the first two are the measurement's
start "vkAllocateMemory=-4@3" $host
refused "a loss that an allocation finds is told to who asked" \
	"vkAllocateMemory: VK_ERROR_DEVICE_LOST" --memory vulkan --stream h
reads "host memory goes on" --memory host --stream h
for _ in $(seq 100); do
	[ "$(grep -c 'timelines' "$tmp/log")" -ge 2 ] && break
	sleep 0.1
done
logged "the GPU is opened again" "timelines" 2
reads "and its memory can be had again" --memory vulkan --stream h
stop

start "vkAllocateMemory=-2@3" $host $gpu
logged "a GPU stream that cannot start does not end the broker, and the call is named" \
	"stream=g cannot start: vkAllocateMemory: VK_ERROR_OUT_OF_DEVICE_MEMORY; tried again soon" 1
reads "it starts a second later" --memory vulkan --stream g
stop

start "vkAllocateMemory=-2@3+" $host $gpu
refused "a GPU stream that can never start is given up" "it was tried three times" \
	--memory vulkan --stream g
reads "beside it host memory goes on" --memory host --stream h
for _ in $(seq 100); do
	grep -q "three times" "$tmp/log" && break
	sleep 0.1
done
sleep 1
logged "it was tried three times, with pauses" "stream=g cannot start" 3
refused "who comes later is told" "has no frames: cannot start: vkAllocateMemory" \
	--memory vulkan --stream g
stop

start "vkQueueSubmit=-2@100+" $host $gpu
refused "submissions that fail end the view, and the call is named" \
	"vkQueueSubmit: VK_ERROR_OUT_OF_DEVICE_MEMORY; it was tried three times" \
	--memory vulkan --stream g
logged "they were tried three times, not for each frame" "stream=g view=.* no frames can be made" 3
reads "after that host memory goes on" --memory host --stream h
stop

start "vkQueueSubmit=-4@100+" $host $gpu
timeout 60 "$check" --memory vulkan --stream g >"$tmp/out" 2>&1 && fail "a lost device was not noticed"
for _ in $(seq 200); do
	grep -q "not tried again until" "$tmp/log" && break
	sleep 0.1
done
logged "a GPU that stays lost is opened twice more, and then no more" "cannot be opened again" 2
refused "who comes later is told why" "it was lost too often and is not tried again" \
	--memory vulkan --stream g
reads "and host memory goes on after all" --memory host --stream h
"$sluice" ls >"$tmp/out" || fail "sluice ls"
grep -q "lost too often" "$tmp/out" || fail "sluice ls does not say that the GPU is lost"
ticks=$(awk '{print $14 + $15}' /proc/$pid/stat)
sleep 1
ticks=$(($(awk '{print $14 + $15}' /proc/$pid/stat) - ticks))
[ "$ticks" -lt 50 ] || fail "a broker whose GPU is lost takes $ticks % of a processor"
echo "ok   a broker whose GPU is lost sleeps"
stop
