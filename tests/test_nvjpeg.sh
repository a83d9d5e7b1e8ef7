#!/bin/bash
# tests/test_nvjpeg.sh BROKER ENCODE PATTERN-CHECK FAKE-CUDA FAKE-NVJPEG [SANITIZE]
#
# `sluice-encode -c nvjpeg` as people run it: the broker on a software renderer, the encoder over the doubles
# of libcuda and libnvjpeg in the two folders. What is in the files is compared with what the broker drew.
# 77: there is no Vulkan device here, which is a failure with SLUICE_TEST_MUST.
set -u
broker=$1 encode=$2 check=$3 fake_cuda=$4 fake_nvjpeg=$5 sanitize=${6:-}
tmp=$(mktemp -d)
export SLUICE_SOCKET=$tmp/s
pid=
writer=
slots=24
trap 'kill -9 $pid $writer 2>/dev/null; rm -rf "$tmp"' EXIT

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

# start OPTIONS...: until it listens. CUDA's device is the broker's, whichever that is.
start() {
	rm -f "$SLUICE_SOCKET"
	"$broker" --socket "$SLUICE_SOCKET" --slots $slots "$@" 2>"$tmp/log" &
	pid=$!
	for _ in $(seq 200); do
		grep -q "listening on" "$tmp/log" && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	grep -q "it needs a GPU" "$tmp/log" && skip "$(cat "$tmp/log")"
	grep -q "listening on" "$tmp/log" || fail "the broker does not listen"
}

stop() {
	kill $pid
	wait $pid || fail "the broker ended with status $?"
}

# encode ARGUMENTS...: over both doubles. What they saw is in $tmp/cuda and $tmp/nvjpeg.
encode() {
	rm -f "$tmp/cuda" "$tmp/nvjpeg"
	LD_LIBRARY_PATH=$fake_cuda:$fake_nvjpeg FAKE_CUDA_LOG=$tmp/cuda FAKE_NVJPEG_LOG=$tmp/nvjpeg \
		timeout 60 "$encode" -c nvjpeg --queue fifo:16 "$@" >"$tmp/out" 2>&1
}

# summary LOG NAME: a number of a double's.
summary() {
	grep -oP "^summary .*\b$2=\K[0-9]+" "$tmp/$1"
}

# Nothing was misused, everything was given back, and nothing but the slots was encoded from.
doubles_are_content() {
	grep -h misuse "$tmp/cuda" "$tmp/nvjpeg" | grep -v '^summary' && fail "$1: a misuse"
	local made
	for made in handles states params; do
		[ "$(summary nvjpeg $made)" = "$(summary nvjpeg ${made}_destroyed)" ] || fail "$1: $made are left"
	done
	[ "$(summary cuda imports)" = "$(summary cuda destroys)" ] || fail "$1: imported memory is left"
	[ "$(summary cuda allocs)" = 0 ] || fail "$1: it has device memory of its own, so it copies"
	[ "$(summary nvjpeg pointers)" -le $slots ] || fail "$1: $(summary nvjpeg pointers) pictures in $slots slots"
}

# good NAME SIZE STREAM FILE ARGUMENTS...: every picture is right.
good() {
	local name=$1 size=$2 stream=$3 file=$tmp/$4
	shift 4
	encode --stream "$stream" --frames 12 "$@" "$file" || fail "$name: exit status $?"
	"$check" -n 12 -s "$size" -p 32 "$file" >>"$tmp/out" 2>&1 || fail "$name"
	doubles_are_content "$name"
	echo "ok   $name"
}

# says NAME STATUS TEXT COMMAND...: one sentence, within a second; of three tries, as the machine may be busy.
says() {
	local name=$1 status=$2 text=$3 begin took
	shift 3
	for _ in 1 2 3; do
		begin=$EPOCHREALTIME
		timeout 20 "$@" >"$tmp/out" 2>&1
		[ $? = "$status" ] || fail "$name: not exit status $status"
		took=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.0f", (b - a) * 1000}')
		[ "$took" -lt 1000 ] && break
	done
	grep -q "^sluice-encode: .*$text" "$tmp/out" || fail "$name does not say \"$text\""
	[ "$(grep -c . "$tmp/out")" = 1 ] || fail "$name says more than a sentence"
	[ -n "$sanitize" ] || [ "$took" -lt 1000 ] || fail "$name takes $took ms"
	echo "ok   $name"
}

# listening PORT: somebody does.
listening() {
	grep -qi ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp
}

# serve FRAMES: as a web page would show it, on $port, in the background.
serve() {
	for port in $(shuf -i 20000-30000 -n 20); do listening "$port" || break; done
	encode --stream g --frames "$1" -f mpjpeg "http://127.0.0.1:$port/?listen=1" &
	writer=$!
	for _ in $(seq 400); do
		listening "$port" && return
		kill -0 $writer 2>/dev/null || break
		sleep 0.05
	done
	fail "nobody listens on port $port"
}

start --source g=pattern:640x360@30:gpu --source o=pattern:321x241@30:BGRA:gpu --source h=pattern:320x240@30 \
	--source n=pattern:320x240@30:NV12:gpu
FAKE_CUDA_DEVICES=$(grep -m 1 -oP ' uuid=\K\S+' "$tmp/log") || fail "the log does not name the GPU"
export FAKE_CUDA_DEVICES
for container in mkv avi mp4 mov; do
	good "a GPU stream in $container" 640x360 g "a.$container"
done
good "odd sizes" 321x241 o odd.mkv -o quality=95
good "a host stream, uploaded by the broker" 320x240 h host.mkv -qp 2
good "optimized Huffman tables" 640x360 g huffman.mkv -o optimized_huffman=1

serve 60
"$check" -g -n 30 -s 640x360 -p 32 "http://127.0.0.1:$port/" >"$tmp/page" 2>&1 || fail "over HTTP: $(cat "$tmp/page")"
wait $writer || fail "over HTTP: exit status $?"
doubles_are_content "over HTTP"
echo "ok   MJPEG over HTTP"
serve 20
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
grep -a -m 1 -q '^Content-Type: multipart/x-mixed-replace;boundary=ffmpeg' <&3 || fail "no browser would show it"
cat <&3 >"$tmp/page"
exec 3<&-
wait $writer || fail "over HTTP: exit status $?"
echo "ok   which a browser shows"

both=(env LD_LIBRARY_PATH="$fake_cuda:$fake_nvjpeg" "$encode" -c nvjpeg)
FAKE_NVJPEG_FAIL=nvjpegEncodeYUV=6@10 encode --stream g -q "$tmp/cut.mkv"
[ $? = 1 ] || fail "a failing GPU: not exit status 1"
grep -q "nvjpegEncodeYUV: NVJPEG_STATUS_EXECUTION_FAILED" "$tmp/out" || fail "a failing GPU is not told"
"$check" -n 9 "$tmp/cut.mkv" >>"$tmp/out" 2>&1 || fail "what came before is not in the file"
echo "ok   a GPU that fails ends the file well"
says "an option that it has not" 2 "no option -o speed=1: it has quality" \
	"${both[@]}" --stream g -o speed=1 "$tmp/no.mkv"
says "a container that cannot hold it" 2 "flv cannot hold" "${both[@]}" --stream g -f flv "$tmp/no.flv"
says "what the broker cannot make" 1 "stream \"n\": .*I420 320x240 cannot be made in GPU memory" \
	"${both[@]}" --stream n "$tmp/no.mkv"
says "an nvJPEG that does not open" 1 "nvjpegCreateSimple: NVJPEG_STATUS_ARCH_MISMATCH" \
	env FAKE_NVJPEG_FAIL=nvjpegCreateSimple=7 "${both[@]}" --stream g "$tmp/no.mkv"
says "another GPU than the broker's" 1 "another GPU" \
	env FAKE_CUDA_DEVICES=00000000-0000-0000-0000-000000000001 "${both[@]}" --stream g "$tmp/no.mkv"
if ! ldconfig -p | grep -q 'libcuda\.so\.1'; then
	says "no driver" 1 "libcuda.so.1 cannot be opened.*is NVIDIA's driver installed" \
		env -u LD_LIBRARY_PATH "$encode" -c nvjpeg --stream g "$tmp/no.mkv"
fi
if ! ldconfig -p | grep -q 'libnvjpeg\.so\.1[123]'; then
	says "no nvJPEG" 1 "nvJPEG is not here (libnvjpeg.so.13, libnvjpeg.so.12 and libnvjpeg.so.11 were tried" \
		env LD_LIBRARY_PATH="$fake_cuda" "$encode" -c nvjpeg --stream g "$tmp/no.mkv"
fi
says "no nvJPEG where SLUICE_NVJPEG says" 1 "as SLUICE_NVJPEG says: /nowhere/j.so" \
	env SLUICE_NVJPEG=/nowhere/j.so "${both[@]}" --stream g "$tmp/no.mkv"
stop

start --gpu none --source h=pattern:320x240@30
says "a broker without a GPU" 1 "GPU" "${both[@]}" --stream h "$tmp/no.mkv"
stop
[ ! -e "$tmp/no.mkv" ] || fail "a file was made although nothing could be encoded"
