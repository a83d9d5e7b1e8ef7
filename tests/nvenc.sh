#!/bin/bash
# For tests/test_encode_gpu.sh and tests/test_nvenc_real.sh: sluice-encode over the double of NVENC, and
# what came of it. The one that includes it sets broker, encode, check and fake_nvenc, and libraries: what
# LD_LIBRARY_PATH is for the encoder.
# shellcheck disable=SC2154

tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
export FAKE_NVENC_LOG=$tmp/nvenc
pid=
trap 'kill -9 $pid 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	cat "$tmp/out" "$tmp/nvenc" "$tmp/log" 2>/dev/null
	exit 1
}

# start OPTIONS...: the broker, until it listens.
start() {
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" "$@" 2>"$tmp/log" &
	pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
}

stop() {
	kill "$pid"
	wait "$pid" || fail "the broker ended with status $?"
}

# encode STATUS ARGUMENTS...: with an empty log.
encode() {
	local status=$1
	shift
	rm -f "$FAKE_NVENC_LOG" "$tmp/cuda"
	LD_LIBRARY_PATH=$libraries FAKE_CUDA_LOG=$tmp/cuda timeout 60 "$encode" "$@" >"$tmp/out" 2>&1
	local is=$?
	[ $is = "$status" ] || fail "$*: exit status $is, not $status"
}

# says NAME TEXT: the last run said it.
says() {
	grep -qF -e "$2" "$tmp/out" || fail "$1: it does not say \"$2\""
	echo "ok   $1"
}

# holds NAME TEXT: NVENC's log has it, and neither log a misuse.
holds() {
	grep -q "^summary .* misuses=0$" "$FAKE_NVENC_LOG" || fail "$1: the contract was broken"
	if [ -f "$tmp/cuda" ]; then
		grep -q "^summary .* misuses=0$" "$tmp/cuda" || fail "$1: CUDA: $(cat "$tmp/cuda")"
	fi
	grep -qE -e "$2" "$FAKE_NVENC_LOG" || fail "$1: \"$2\" is not in the log"
	echo "ok   $1"
}

# pictures NAME FILE N SIZE [PSNR]: so many, in order, each the one that went in; and none is left out,
# unless the encoder was too slow for the source, as it says itself. The source's own YUV is of other
# colours than its RGB, which is what the checker knows: 0 leaves the comparison out.
pictures() {
	local is gaps=-g
	grep -q " skipped 0, dropped 0, revoked 0, torn 0" "$tmp/out" && gaps=
	is=$("$check" -n "$3" -x -s "$4" -p "${5:-40}" $gaps "$2") || fail "$1: $is"
	echo "ok   $1: ${is#*: }"
}
