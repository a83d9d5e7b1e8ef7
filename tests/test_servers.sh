#!/bin/bash
# tests/test_servers.sh BROKER ENCODE VIDEO-EXPECT
#
# sluice-encode against real servers: nginx with its RTMP module, which dies in between, srt-live-transmit,
# FFmpeg as an RTSP server and as a UDP receiver. What a player gets is decoded, and its frames are
# counted by the numbers in the picture. Meanwhile another sluice-encode on the same stream must not
# miss a frame. Everything runs as the user who runs this. 77: a server is not installed, which is a failure
# with SLUICE_TEST_MUST.
set -u
broker=$1 encode=$2 expect=$3
PATH=$PATH:/usr/sbin
module=/usr/lib/nginx/modules/ngx_rtmp_module.so
tmp=$(mktemp -d)
cd "$tmp" || exit 1
export SLUICE_SOCKET=$tmp/s
port=$((20000 + RANDOM % 20000))
rtmp=rtmp://127.0.0.1:$port/live/desktop
nginx_pid=
trap 'kill -9 $nginx_pid $(jobs -p) 2>/dev/null; rm -rf "$tmp"' EXIT

fail() {
	echo "FAIL $*"
	tail -n 20 ./*.log
	exit 1
}

for what in nginx:nginx-core srt-live-transmit:srt-tools ffmpeg:ffmpeg $module:libnginx-mod-rtmp; do
	command -v "${what%:*}" >/dev/null || [ -e "${what%:*}" ] && continue
	echo "skipped: ${what#*:} is not installed"
	[ -z "${SLUICE_TEST_MUST:-}" ] && exit 77
	exit 1
done

# await SECONDS COMMAND...: until it succeeds.
await() {
	local rounds=$(($1 * 10))
	shift
	for _ in $(seq $rounds); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	return 1
}

listens() {
	(: </dev/tcp/127.0.0.1/"$1")
}

start_nginx() {
	nginx -p "$tmp" -e nginx.log -c "$tmp/nginx.conf" 2>>nginx-start.log &
	nginx_pid=$!
	disown
	await 10 listens $port || fail "nginx does not listen"
}

cat >nginx.conf <<END
load_module $module;
daemon off;
master_process off;
pid $tmp/nginx.pid;
events { worker_connections 64; }
rtmp {
	server {
		listen 127.0.0.1:$port;
		application live { live on; record off; }
	}
}
END

# play NAME: two seconds of what nginx sends, decoded. Without sound FFmpeg would look for it for long.
play() {
	timeout 30 ffmpeg -v error -y -analyzeduration 500000 -i $rtmp -frames:v 60 -c copy "$1.mkv" \
		</dev/null 2>"$1.log" || fail "$1 cannot be played"
	"$expect" "$1.mkv" 50 640x360 || fail "$1 is not what was sent"
}

# stat_of FILE NAME: a number of the statistics.
stat_of() {
	sed -n "s/^  \"$2\": \([0-9]*\),\$/\1/p" "$1"
}

"$broker" --socket "$SLUICE_SOCKET" --source test=pattern:640x360@30 --slots 24 2>broker.log &
await 10 grep -q "listening on" broker.log || fail "the broker does not listen"

# Nobody is there yet: told at once, and with --wait waited for.
SECONDS=0
timeout 20 "$encode" --stream test $rtmp 2>refused.log && fail "a server that is not there is no error"
grep -q "Connection refused" refused.log || fail "it does not say that the server is not there"
[ $SECONDS -le 5 ] || fail "it took $SECONDS s to say that the server is not there"
"$encode" --stream test --queue fifo:16 --wait -r 30 --stats rtmp.json $rtmp 2>rtmp.log &
publisher=$!
await 10 grep -q "trying again" rtmp.log || fail "it does not wait for the server"
"$encode" --stream test --queue fifo:16 --stats file.json file.mkv 2>file.log &
recorder=$!

start_nginx
await 20 grep -q "is there after" rtmp.log || fail "it does not find the server"
play before
timeout 30 ffprobe -v error -analyzeduration 500000 -show_entries stream=codec_name,width -of csv $rtmp \
	</dev/null 2>ffprobe.log | grep -q "h264,640" || fail "ffprobe sees something else"

# The server dies and comes back.
kill -9 "$nginx_pid"
await 10 grep -q "cannot write.*trying again" rtmp.log || fail "it does not say that the server is gone"
sleep 1
start_nginx
await 20 grep -q "is back after" rtmp.log || fail "it does not come back"
play after

# Other servers, all at once.
srt-live-transmit -q "srt://127.0.0.1:$((port + 1))?mode=listener" file://con >srt.ts 2>srt-server.log &
servers=($!)
ffmpeg -v error -y -rtsp_flags listen -i rtsp://127.0.0.1:$((port + 2))/live -c copy rtsp.mkv \
	</dev/null 2>rtsp-server.log &
servers+=($!)
ffmpeg -v error -y -analyzeduration 500000 -i "udp://127.0.0.1:$((port + 3))?timeout=20000000" -frames:v 45 -c copy udp.mkv \
	</dev/null 2>udp-server.log &
servers+=($!)
sleep 1
clients=()
for url in srt://127.0.0.1:$((port + 1)) rtsp://127.0.0.1:$((port + 2))/live \
	udp://127.0.0.1:$((port + 3)); do
	"$encode" --stream test --queue fifo:16 --frames 90 --wait "$url" 2>"${url%%:*}.log" &
	clients+=($!)
done
for pid in "${clients[@]}"; do
	wait "$pid" || fail "an encoder ended with status $?"
done
sleep 0.5
kill "${servers[@]}" 2>/dev/null
wait "${servers[@]}" 2>/dev/null
"$expect" srt.ts 80 640x360 || fail "srt is not what was sent"
"$expect" rtsp.mkv 80 640x360 restamped || fail "rtsp is not what was sent"
"$expect" udp.mkv 20 640x360 || fail "udp is not what was sent"

# Who had nothing to do with any server noticed nothing.
kill -INT $publisher $recorder
wait $publisher || fail "the publisher ended with status $?"
wait $recorder || fail "the recorder ended with status $?"
"$expect" file.mkv 150 640x360 || fail "the file has gaps"
[ "$(stat_of file.json n_gaps) $(stat_of file.json missed)" = "0 0" ] || fail "it missed: $(cat file.json)"
[ "$(stat_of rtmp.json n_gaps)" = 0 ] || fail "the publisher's own frames have gaps: $(cat rtmp.json)"
[ "$(stat_of rtmp.json republished)" = 1 ] || fail "republished is not 1: $(cat rtmp.json)"
echo "ok   $(stat_of rtmp.json late) packets were not sent, in $SECONDS s"
