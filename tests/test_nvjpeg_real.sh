#!/bin/bash
# tests/test_nvjpeg_real.sh BROKER ENCODE PATTERN-CHECK [PART...]
#
# `sluice-encode -c nvjpeg` on an NVIDIA GPU: pictures, frames per second, memory; some two minutes. nvJPEG
# comes with CUDA, not with the driver: LD_LIBRARY_PATH or SLUICE_NVJPEG say where it is. Each part prints
# what it saw. Exit status: 0 all held, 1 not, 77 there is no such GPU or no nvJPEG here.
# shellcheck disable=SC2317 # the parts are called by name
set -u
broker=$1 encode=$2 check=$3
shift 3
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(device pictures rate restarts)

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
	local sources=() s
	for s; do sources+=(--source "$s"); done
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --gpu-memory 16G --slots 48 "${sources[@]}" 2>"$tmp/log" &
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

# stat FILE NAME: a number of an encoder's report.
stat() { grep -oP "\"$2\": \K[0-9.]+" "$1" | head -1; }

part_device() {
	nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
	start_broker g=pattern:640x480@30:gpu
	grep "gpu=" "$tmp/log"
	if ! "$encode" -c nvjpeg --stream g --frames 1 "$tmp/first.mkv" 2>"$tmp/e"; then
		if grep -q "nvJPEG is not here" "$tmp/e"; then
			echo "skipped: $(cat "$tmp/e")"
			exit 77
		fi
		fail "one picture: $(cat "$tmp/e")"
	fi
	stop_broker
}

# pictures SIZE FILE PSNR ARGUMENTS...: two seconds, each picture of them. PSNR of every 20th.
pictures() {
	local size=$1 file=$tmp/$2 psnr=$3
	shift 3
	"$encode" -c nvjpeg --stream "$size" --queue fifo:32 --frames 120 --stats "$tmp/stats" "$@" "$file" 2>"$tmp/e" ||
		fail "$size into $file: $(cat "$tmp/e")"
	"$check" -n 120 -s "$size" -p "$psnr" -e 20 "$file" || fail "$size: $file is not right: $(cat "$tmp/e")"
	echo "    $size $*: $(($(stat "$tmp/stats" bytes) / 120)) bytes each, $(tail -n 1 "$tmp/e" | grep -o 'latency.*')"
	rm -f "$file"
}

part_pictures() {
	start_broker 1920x1080=pattern:1920x1080@60:gpu 3840x2160=pattern:3840x2160@60:gpu \
		1919x1079=pattern:1919x1079@60:gpu
	pictures 1920x1080 a.mkv 30
	pictures 1920x1080 a.avi 32 -o quality=97
	pictures 1920x1080 a.mp4 25 -qp 10
	pictures 1920x1080 a.mkv 30 -o optimized_huffman=1
	pictures 3840x2160 b.mkv 30
	pictures 1919x1079 c.mkv 30
	stop_broker
}

# rate SIZE N: so many encoders of one stream, each as fast as it can be. One of them writes a file that is
# looked at; the others' output goes nowhere.
rate() {
	local size=$1 n=$2 pids=() i
	rm -f "$tmp"/r.*
	start_broker "g=pattern:$size@1000:gpu"
	for i in $(seq "$n"); do
		"$encode" -c nvjpeg --stream g --queue mailbox -t 6 -q --stats "$tmp/r.$i" -f matroska \
			/dev/null 2>"$tmp/e.$i" &
		pids+=($!)
	done
	"$encode" -c nvjpeg --stream g --queue mailbox --frames 30 -q "$tmp/seen.mkv" 2>"$tmp/e.seen" ||
		fail "one more: $(cat "$tmp/e.seen")"
	for i in $(seq "$n"); do
		wait "${pids[i - 1]}" || fail "encoder $i of $n: $(cat "$tmp/e.$i")"
	done
	"$check" -g -n 30 -s "$size" -p 30 -e 10 "$tmp/seen.mkv" || fail "beside $n others pictures are not right"
	for i in $(seq "$n"); do
		echo "$(stat "$tmp/r.$i" frames) $(stat "$tmp/r.$i" seconds) $(stat "$tmp/r.$i" torn) $(stat "$tmp/r.$i" p50) $(stat "$tmp/r.$i" p99)"
	done | awk -v size="$size" '
		{ fps += $1 / $2; torn += $3; p50 += $4; if ($5 > p99) p99 = $5 }
		END { printf "nvjpeg %s, %d encoders: %.1f frames/s each, %.1f together; capture to packet p50 %.2f ms, p99 %.2f ms at most; torn %d\n",
			size, NR, fps / NR, fps, p50 / NR, p99, torn }'
	stop_broker
}

part_rate() {
	for size in 1920x1080 3840x2160; do
		rate "$size" 1
		rate "$size" 8
	done
}

# As long as one encodes, and as often as one begins and ends, memory stays as it is.
part_restarts() {
	start_broker g=pattern:3840x2160@60:gpu
	"$encode" -c nvjpeg --stream g --frames 30 -q -f matroska /dev/null || fail "the first encoder"
	sleep 1
	local before after first last seen=()
	before=$(gpu_mib)
	for _ in $(seq 20); do
		"$encode" -c nvjpeg --stream g --frames 30 -q -f matroska /dev/null || fail "a restart"
		seen+=("$(gpu_mib)")
	done
	sleep 1
	after=$(gpu_mib)
	echo "GPU memory: $before MiB, after each of 20 restarts ${seen[*]}, at the end $after MiB"
	[ "$after" -le $((before + 4)) ] || fail "GPU memory is $after MiB, not $before"
	"$encode" -c nvjpeg --stream g -t 12 -q -f matroska /dev/null &
	local pid=$!
	sleep 3
	first=$(gpu_mib)
	sleep 8
	last=$(gpu_mib)
	wait "$pid" || fail "the long run"
	echo "GPU memory while one encodes: $first MiB, and 8 s later $last MiB"
	[ "$last" -le $((first + 4)) ] || fail "GPU memory grows while one encodes"
	stop_broker
}

for part in "${parts[@]}"; do
	echo "== $part"
	"part_$part"
done
exit $failed
