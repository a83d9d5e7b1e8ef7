#!/bin/bash
# tests/test_vm_frames.sh BROKER CHECK
#
# In the guest of scripts/test-vm: the broker hands frames over with real sync_files, before their pixels
# are there, and a consumer in another process waits for them. Elsewhere: 77.
set -u
broker=$1 check=$2
if [ -z "${SLUICE_TEST_VM:-}" ]; then
	echo "skipped: it needs the guest of scripts/test-vm"
	exit 77
fi
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
trap 'kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/log" 2>/dev/null
	exit 1
}

# field NAME: of the last report.
field() {
	grep -oP "\"$1\":\"?\K[^\",}]+" "$tmp/out" | head -n 1
}

# read_frames ARGUMENTS...: every frame is right.
read_frames() {
	"$check" --json -n 10 --stream g --memory vulkan "$@" >"$tmp/out" 2>&1 ||
		fail "sluice-cuda-check $*: exit status $?"
	[ "$(field frames)" = 10 ] || fail "sluice-cuda-check $*"
	[ "$(field wrong)" = 0 ] || fail "sluice-cuda-check $*"
}

# large, so that the copy is not done before the reader looks
"$broker" --socket "$SLUICE_SOCKET" --source g=pattern:1280x720@10:BGRx:gpu 2>"$tmp/log" &
pid=$!
for _ in $(seq 600); do
	grep -q "listening on" "$tmp/log" && break
	kill -0 $pid 2>/dev/null || fail "the broker does not start"
	sleep 0.1
done
grep -q "sync files yes" "$tmp/log" || fail "the driver here exports no sync_files"

read_frames --readiness sync-fd --fifo 4
[ "$(field readiness)" = sync-fd ] || fail "sync-fd was not granted"
[ "$(field early)" -ge 7 ] || fail "only $(field early) of 10 frames came before their pixels"
early=$(field early)
echo "ok   frames come with sync_files before their pixels are there, and are right"

read_frames --readiness complete
[ "$(field early)" = 0 ] || fail "complete frames came before their pixels"
echo "ok   complete frames come when their pixels are there"

read_frames --readiness timeline
[ "$(field readiness)" = complete ] || fail "a timeline was granted by a driver that has none"
grep -q "cannot export timeline semaphores" "$tmp/out" || fail "why it is not a timeline is not said"
echo "ok   a timeline that cannot be had becomes complete frames, and why is said"

kill $pid
wait $pid || fail "the broker ended with status $?"
echo "3 passed, 0 failed: $early of 10 frames came early"
