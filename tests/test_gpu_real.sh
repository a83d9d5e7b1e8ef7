#!/bin/bash
# tests/test_gpu_real.sh BIN-BROKER BIN-CHECK BIN-SLUICE [PART...]
#
# On an NVIDIA GPU with CUDA: the broker and real consumer processes, killed and restarted. Each part
# prints what it measured. Exit status: 0 all held, 1 not, 77 there is no such GPU here.
# shellcheck disable=SC2155,SC2317 # the parts are called by name; what fails to say a number is noticed where the number is compared
set -u
broker=$1 check=$2 sluice=$3
shift 3
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(device lockstep paced sizes timeline host kill broker_killed timeline_killed cycles)

if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
	echo "skipped: no NVIDIA GPU here (nvidia-smi names none)"
	exit 77
fi

tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
broker_pid=
failed=0
trap 'kill -9 $broker_pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	failed=1
}

# start_broker SOURCE...: until it listens.
start_broker() {
	local sources=()
	for s; do sources+=(--source "$s"); done
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --gpu-memory 8G "${sources[@]}" 2>"$tmp/log" &
	broker_pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && return
		sleep 0.05
	done
	cat "$tmp/log"
	fail "the broker does not listen"
}

stop_broker() {
	kill "$broker_pid"
	wait "$broker_pid" 2>/dev/null
	broker_pid=
}

gpu_mib() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -1; }
broker_fds() { find "/proc/$broker_pid"/fd -mindepth 1 2>/dev/null | wc -l; }
broker_ticks() { awk '{print $14 + $15}' "/proc/$broker_pid"/stat; }

# readers N ARGUMENTS...: so many at once; their reports lie in $tmp/r.*
readers() {
	local n=$1 pids=()
	shift
	rm -f "$tmp"/r.*
	for i in $(seq "$n"); do
		"$check" --json "$@" >"$tmp/r.$i" 2>"$tmp/e.$i" &
		pids+=($!)
	done
	for i in $(seq "$n"); do
		wait "${pids[i - 1]}" || fail "reader $i of $n ($*): $(cat "$tmp/e.$i" "$tmp/r.$i")"
	done
}

# field NAME: its mean over the reports.
field() {
	cat "$tmp"/r.* | grep -oP "\"$1\":\K[0-9.]+" | awk '{s += $1} END {if (NR) printf "%.1f", s / NR}'
}
read_p50() {
	cat "$tmp"/r.* | grep -oP '"read_us":\{"p50":\K[0-9.]+' | awk '{s += $1} END {if (NR) printf "%.1f", s / NR}'
}
read_p99() {
	cat "$tmp"/r.* | grep -oP '"read_us":\{[^}]*"p99":\K[0-9.]+' | awk '{s += $1} END {if (NR) printf "%.1f", s / NR}'
}

# row NAME N: what the readers said.
row() {
	printf '%-34s %2d readers: p50 %8s us, p99 %8s us, %8s frames/s, wrong %s, revoked %s, first %s ms\n' \
		"$1" "$2" "$(read_p50)" "$(read_p99)" "$(field fps)" "$(field wrong)" "$(field revoked)" "$(field first_ms)"
}

part_device() {
	nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
	start_broker g=pattern:640x480@30:gpu
	grep "gpu=" "$tmp/log"
	stop_broker
}

part_lockstep() {
	for spin in 0 1000; do
		start_broker g=pattern:3840x2160@0:BGRA:gpu
		for n in 1 4 16; do
			local before=$(broker_ticks) t0=$EPOCHREALTIME
			readers "$n" --stream g -t 4 --spin "$spin"
			local cpu=$(($(broker_ticks) - before))
			row "4K lock-step, spin $spin" "$n"
			awk -v c="$cpu" -v a="$t0" -v b="$EPOCHREALTIME" 'BEGIN {printf "    broker CPU %.0f %%\n", c / (b - a)}'
		done
		stop_broker
	done
}

part_paced() {
	start_broker g=pattern:3840x2160@250:BGRA:gpu
	for n in 1 4 16; do
		local before=$(broker_ticks)
		readers "$n" --stream g -t 4
		row "4K at 250/s" "$n"
		echo "    broker CPU ticks of 10 ms in 4 s: $(($(broker_ticks) - before)), GPU memory in use $(gpu_mib) MiB"
	done
	stop_broker
}

part_sizes() {
	for size in 1280x720 1920x1080; do
		start_broker g=pattern:"$size"@0:BGRA:gpu
		for n in 1 4 16; do
			readers "$n" --stream g -t 3
			row "$size lock-step" "$n"
		done
		stop_broker
	done
}

part_timeline() {
	start_broker g=pattern:3840x2160@250:BGRA:gpu l=pattern:3840x2160@0:BGRA:gpu
	for n in 1 4; do
		readers "$n" --stream g -t 3 --readiness timeline
		row "4K at 250/s, timeline" "$n"
		grep -q '"readiness":"timeline"' "$tmp/r.1" || fail "timeline was not granted: $(cat "$tmp/e.1")"
		readers "$n" --stream l -t 3 --readiness timeline
		row "4K lock-step, timeline" "$n"
	done
	readers 1 --stream g -n 5 --readiness sync-fd
	echo "sync-fd: $(grep -oP '"readiness":"\K[^"]+' "$tmp/r.1"); $(cat "$tmp/e.1")"
	stop_broker
}

part_host() {
	start_broker h=pattern:1920x1080@60 g=pattern:3840x2160@60:BGRA:gpu
	readers 2 --stream h -t 3 --fifo 4
	row "1080p host stream, GPU view" 2
	readers 2 --stream g -t 3 --memory host --fifo 4
	row "4K GPU stream, host view" 2
	grep -E "uploaded|read back" "$tmp/log"
	"$sluice" ls
	stop_broker
}

# Others at a rate while one of them is killed with frames held.
kill_at() {
	local rate=$1
	start_broker g=pattern:1920x1080@"$rate":BGRA:gpu
	"$check" --stream g -n 3 >/dev/null
	sleep 1
	local fds=$(broker_fds) mib=$(gpu_mib) others=()
	rm -f "$tmp"/r.*
	for i in 1 2 3; do
		"$check" --json --stream g -t 6 --fifo 4 --holds 4 >"$tmp/r.$i" 2>"$tmp/e.$i" &
		others+=($!)
	done
	sleep 1
	for i in 1 2 3 4; do
		"$check" --stream g --holds 4 --hold 500 >/dev/null 2>&1 &
		local victim=$!
		sleep 0.8
		kill -9 "$victim"
		wait "$victim" 2>/dev/null
	done
	for i in 1 2 3; do
		wait "${others[i - 1]}" || fail "reader $i beside the killed one: $(cat "$tmp/e.$i" "$tmp/r.$i")"
	done
	row "1080p at $rate/s, 4 readers killed" 3
	[ "$(field missed)" = 0.0 ] || fail "frames were missed at $rate/s: $(cat "$tmp"/r.[123])"
	sleep 1
	[ "$(broker_fds)" = "$fds" ] || fail "the broker has $(broker_fds) descriptors, not $fds"
	[ "$(gpu_mib)" -le $((mib + 4)) ] || fail "GPU memory is $(gpu_mib) MiB, not $mib"
	echo "    descriptors $fds and $(broker_fds), GPU memory $mib and $(gpu_mib) MiB"
	stop_broker
}

part_kill() {
	kill_at 60
	kill_at 1000
}

# killed_with READINESS: each reader ends by itself, soon.
killed_with() {
	start_broker g=pattern:3840x2160@1000:BGRA:gpu
	local pids=()
	for i in 1 2 3 4; do
		"$check" --stream g --readiness "$1" >"$tmp/k.$i" 2>&1 &
		pids+=($!)
	done
	sleep 3
	kill -9 "$broker_pid"
	local t0=$EPOCHREALTIME
	for i in 1 2 3 4; do wait "${pids[i - 1]}"; done
	awk -v a="$t0" -v b="$EPOCHREALTIME" -v r="$1" 'BEGIN {printf "broker killed, %s: the last of 4 readers has ended after %.0f ms (CUDA'"'"'s own end included)\n", r, (b - a) * 1000}'
	cat "$tmp/k.1"
	grep -q "0 wrong" "$tmp/k.1" || fail "a reader of a killed broker: $(cat "$tmp/k.1")"
	broker_pid=
}

part_broker_killed() { killed_with complete; }
part_timeline_killed() { killed_with timeline; }

part_cycles() {
	start_broker g=pattern:1920x1080@250:BGRA:gpu
	"$check" --stream g -n 3 >/dev/null
	sleep 1
	local fds=$(broker_fds) mib=$(gpu_mib)
	for _ in $(seq 50); do
		local pids=()
		for _ in 1 2 3 4; do
			"$check" --stream g -n 2 >/dev/null &
			pids+=($!)
		done
		for pid in "${pids[@]}"; do wait "$pid" || fail "a cycle"; done
	done
	sleep 1
	echo "200 cycles: descriptors $fds and $(broker_fds), GPU memory $mib and $(gpu_mib) MiB"
	[ "$(broker_fds)" = "$fds" ] || fail "the broker has $(broker_fds) descriptors, not $fds"
	[ "$(gpu_mib)" -le $((mib + 4)) ] || fail "GPU memory is $(gpu_mib) MiB, not $mib"
	stop_broker
}

for part in "${parts[@]}"; do
	echo "== $part"
	"part_$part"
done
exit $failed
