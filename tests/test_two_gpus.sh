#!/bin/bash
# tests/test_two_gpus.sh BROKER CHECK SLUICE VULKAN-UUID [FOLDER]
#
# Run by tests/two-gpus.sh. One broker with two GPUs: each stream is on its own, a consumer that has both
# finds the right one, and a consumer that has one of them is refused the other's memory, with a sentence.
# With FOLDER, where the CUDA double is, over CUDA too.
set -u
broker=$1 check=$2 sluice=$3 vulkan_uuid=$4 fake_cuda=${5:-}
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
trap 'kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/log" 2>/dev/null
	exit 1
}

# good NAME ARGUMENTS...: every frame is right.
good() {
	local name=$1
	shift
	timeout 60 "$check" -n 10 --fifo 4 "$@" >"$tmp/out" 2>&1 || fail "$name: exit status $?"
	grep -q "^10 frames, 0 wrong" "$tmp/out" || fail "$name"
	echo "ok   $name"
}

# refused NAME TEXT ARGUMENTS...: no frame, and the sentence.
refused() {
	local name=$1 text=$2
	shift 2
	timeout 60 "$check" -n 1 "$@" >"$tmp/out" 2>&1
	[ $? = 1 ] || fail "$name: not refused"
	grep -q "$text" "$tmp/out" || fail "$name: it does not say \"$text\""
	echo "ok   $name"
}

# with_driver MANIFEST CMD...: it sees no other device.
with_driver() {
	local -x VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1
	shift
	"$@"
}

# with_cuda UUIDS CMD...: CUDA has these devices.
with_cuda() {
	local -x LD_LIBRARY_PATH=$fake_cuda:$LD_LIBRARY_PATH
	local -x FAKE_CUDA_DEVICES=$1
	shift
	"$@"
}

"$broker" --socket "$SLUICE_SOCKET" --gpu 0 --gpu-of b=1 --source a=pattern:320x240@60:BGRx:gpu \
	--source b=pattern:641x361@60:NV12:gpu --source h=pattern:320x240@60 2>"$tmp/log" &
pid=$!
for _ in $(seq 200); do
	grep -q "listening on" "$tmp/log" && break
	kill -0 $pid 2>/dev/null || fail "the broker does not start"
	sleep 0.05
done
grep -q "listening on" "$tmp/log" || fail "the broker does not listen"

# Which device is which: of the two that there are, by the broker's account.
mapfile -t uuid < <("$sluice" ls --json | grep -oP '"uuid":"\K[^"]+')
if [ ${#uuid[@]} != 2 ] || [ "${uuid[0]}" = "${uuid[1]}" ]; then
	fail "sluice ls names: ${uuid[*]}"
fi
for manifest in ${VK_DRIVER_FILES//:/ }; do
	case $(with_driver "$manifest" "$vulkan_uuid") in
	"${uuid[0]}") driver_a=$manifest ;;
	"${uuid[1]}") driver_b=$manifest ;;
	esac
done
if [ -z "${driver_a:-}" ] || [ -z "${driver_b:-}" ]; then
	fail "the broker's GPUs are not those of the drivers"
fi
echo "ok   the broker has both GPUs"

for stream in a b h; do
	good "stream $stream, for a consumer that has both" --stream $stream --memory vulkan
done
for stream in a h; do
	with_driver "$driver_a" good "stream $stream is on the first" --stream $stream --memory vulkan
	with_driver "$driver_b" refused "stream $stream is refused to who has the second alone" \
		"none of the 1 Vulkan devices here is the GPU of the stream" --stream $stream --memory vulkan
done
with_driver "$driver_b" good "stream b is on the second" --stream b --memory vulkan
with_driver "$driver_a" refused "stream b is refused to who has the first alone" \
	"none of the 1 Vulkan devices here is the GPU of the stream" --stream b --memory vulkan
with_driver /nonexistent good "host memory is for who has none" --stream b --memory host

if [ -n "$fake_cuda" ]; then
	with_cuda "${uuid[1]}" refused "stream a is refused to who has the second in CUDA" \
		'stream "a" is on another GPU' --stream a
	with_cuda "${uuid[0]}" refused "stream b is refused to who has the first in CUDA" \
		'stream "b" is on another GPU' --stream b
	with_cuda "${uuid[1]},${uuid[0]}" good "CUDA's device is found by UUID, not by number" --stream a
	with_cuda "${uuid[0]},${uuid[1]}" good "and for the other stream" --stream b
fi
kill $pid
wait $pid || fail "the broker ended with status $?"
