#!/bin/bash
# tests/test_gpu_real.sh BIN-BROKER BIN-CHECK BIN-SLUICE [PART...]
#
# On an NVIDIA GPU with CUDA: the broker and real consumer processes, killed and restarted, in some two
# minutes. Each part prints what it saw; how fast it is, sluice-bench --only gpu measures. Exit status: 0
# all held, 1 not, 77 there is no such GPU here.
# shellcheck disable=SC2155,SC2317 # the parts are called by name; what fails to say a number is noticed where the number is compared
set -u
broker=$1 check=$2 sluice=$3
shift 3
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(device timeline host kill broker_killed timeline_killed cycles)

if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
	echo "skipped: no NVIDIA GPU here (nvidia-smi names none)"
	exit 77
fi

tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
broker_pid=
slots=8
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
	"$broker" --socket "$SLUICE_SOCKET" --gpu-memory 8G --slots "$slots" "${sources[@]}" 2>"$tmp/log" &
	broker_pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && return
		sleep 0.05
	done
	cat "$tmp/log"
	fail "the broker does not listen"
	exit 1
}

stop_broker() {
	kill "$broker_pid"
	wait "$broker_pid" 2>/dev/null
	broker_pid=
}

gpu_mib() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -1; }
broker_fds() { find "/proc/$broker_pid"/fd -mindepth 1 2>/dev/null | wc -l; }

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
sum() {
	cat "$tmp"/r.* | grep -oP "\"$1\":\K[0-9]+" | awk '{s += $1} END {print s + 0}'
}
largest() {
	cat "$tmp"/r.* | grep -oP "\"$1\":\K[0-9.]+" | sort -g | tail -n 1
}
read_p99() {
	cat "$tmp"/r.* | grep -oP '"read_us":\{[^}]*"p99":\K[0-9.]+' | awk '{s += $1} END {if (NR) printf "%.1f", s / NR}'
}

# row NAME N: what the readers said. Each said it, and none had a wrong frame.
row() {
	printf '%-34s %2d readers: p50 %8s us, p99 %8s us, %8s frames/s, wrong %s, missed %s, revoked %s, first %s ms\n' \
		"$1" "$2" "$(read_p50)" "$(read_p99)" "$(field fps)" "$(sum wrong)" "$(sum missed)" "$(sum revoked)" \
		"$(field first_ms)"
	[ "$(grep -l '"wrong":0,' "$tmp"/r.* | wc -l)" = "$2" ] || fail "$1: not $2 readers without a wrong frame: $(cat "$tmp"/r.*)"
	[ "$(grep -lE '"frames":[1-9]' "$tmp"/r.* | wc -l)" = "$2" ] || fail "$1: a reader had no frame: $(cat "$tmp"/r.*)"
}

part_device() {
	nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
	start_broker g=pattern:640x480@30:gpu
	grep "gpu=" "$tmp/log"
	stop_broker
}

part_timeline() {
	start_broker g=pattern:3840x2160@250:BGRA:gpu
	for n in 1 4; do
		readers "$n" --stream g -t 3 --readiness timeline
		row "4K at 250/s, timeline" "$n"
		[ "$(grep -l '"readiness":"timeline"' "$tmp"/r.* | wc -l)" = "$n" ] ||
			fail "timeline was not granted: $(cat "$tmp"/e.*)"
		[ "$(sum early)" -gt 0 ] || fail "no frame came before its pixels: the timelines were not waited for"
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

# held PID: how many frames that process has, as the broker says.
held() {
	"$sluice" ls --json | grep -oP "\"pid\":$1,.*?\"holds\":\K[0-9]+" | grep -m 1 . || echo 0
}

# kill_a_holder: start one more reader, and kill it while it has frames.
kill_a_holder() {
	"$check" --stream g --holds 4 --hold 500 >"$tmp/victim" 2>&1 &
	local victim=$! holds=0
	for _ in $(seq 100); do
		holds=$(held "$victim")
		[ "$holds" = 0 ] || break
		sleep 0.05
	done
	# it reads and holds on while we look, so it may have more now, never none for 500 ms
	kill -9 "$victim"
	wait "$victim" 2>/dev/null
	[ "$holds" -gt 0 ] || fail "the reader that was killed had no frame: $(cat "$tmp/victim")"
	victim_holds="$victim_holds $holds"
}

# Others at a rate while one of them is killed with frames held.
kill_at() {
	local rate=$1 slots=40
	start_broker g=pattern:1920x1080@"$rate":BGRA:gpu
	"$check" --stream g -n 3 >/dev/null
	sleep 1
	local fds=$(broker_fds) mib=$(gpu_mib) others=()
	rm -f "$tmp"/r.*
	for i in 1 2 3; do
		# a queue for 16 ms: the driver holds readers up for some 10 ms when another process begins or ends
		"$check" --json --stream g -t 60 --fifo 16 --holds 4 >"$tmp/r.$i" 2>"$tmp/e.$i" &
		others+=($!)
	done
	sleep 1
	victim_holds=
	for i in 1 2 3 4; do kill_a_holder; done
	for i in 1 2 3; do
		kill -0 "${others[i - 1]}" 2>/dev/null || fail "reader $i had ended before the last was killed"
		kill -TERM "${others[i - 1]}"
	done
	for i in 1 2 3; do
		wait "${others[i - 1]}" || fail "reader $i beside the killed one: $(cat "$tmp/e.$i" "$tmp/r.$i")"
	done
	row "1080p at $rate/s, 4 readers killed" 3
	[ "$(sum missed)" = 0 ] || fail "frames were missed at $rate/s: $(cat "$tmp"/r.[123])"
	sleep 1
	[ "$(broker_fds)" = "$fds" ] || fail "the broker has $(broker_fds) descriptors, not $fds"
	[ "$(gpu_mib)" -le $((mib + 4)) ] || fail "GPU memory is $(gpu_mib) MiB, not $mib"
	echo "    killed with$victim_holds frames held; descriptors $fds and $(broker_fds), GPU memory $mib and $(gpu_mib) MiB"
	stop_broker
}

part_kill() {
	kill_at 60
	kill_at 1000
}

# killed_with READINESS: each reader notices, frees itself, and ends by itself with an error, within 100 ms.
killed_with() {
	start_broker g=pattern:3840x2160@1000:BGRA:gpu
	local pids=() status
	rm -f "$tmp"/r.*
	for i in 1 2 3 4; do
		"$check" --json --stream g --readiness "$1" >"$tmp/r.$i" 2>"$tmp/e.$i" &
		pids+=($!)
	done
	sleep 3
	kill -9 "$broker_pid"
	wait "$broker_pid" 2>/dev/null
	broker_pid=
	for i in 1 2 3 4; do
		wait "${pids[i - 1]}"
		status=$?
		grep -q '"lost_ms":0.00' "$tmp/r.$i" && fail "reader $i did not notice: $(cat "$tmp/r.$i")"
		[ "$status" = 1 ] || fail "reader $i of a broker that was killed ended with $status: $(cat "$tmp/e.$i" "$tmp/r.$i")"
		grep -q "\"readiness\":\"$1\"" "$tmp/r.$i" || fail "reader $i was not granted $1: $(cat "$tmp/e.$i")"
		within_100_ms lost_ms "$i"
		within_100_ms end_ms "$i"
	done
	row "broker killed, $1" 4
	echo "    noticed after $(largest lost_ms) ms, freed after $(largest end_ms) ms more, at most; they say: $(tail -n 1 "$tmp/e.1")"
}

# within_100_ms FIELD READER: it is there, and no more.
within_100_ms() {
	local ms
	ms=$(grep -oP "\"$1\":\K[0-9.]+" "$tmp/r.$2")
	awk -v ms="${ms:-none}" 'BEGIN {exit !(ms ~ /^[0-9]/ && ms <= 100)}' ||
		fail "reader $2: $1 is ${ms:-not there}, not 100 at most"
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
