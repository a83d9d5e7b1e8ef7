#!/bin/bash
# tests/test_nvenc_real.sh BROKER ENCODE PATTERN-CHECK FAKE-NVENC-DIR
#
# On an NVIDIA GPU with CUDA, whether it has an NVENC engine or not: NVENC's double over the real driver
# reads the broker's memory as the engine would. Then what the real NVENC says. Exit status: 0 all held, 1
# not, 77 there is no such GPU here.
# shellcheck disable=SC1091,SC2034,SC2154 # nvenc.sh uses and sets these; it is not followed
set -u
broker=$1 encode=$2 check=$3 fake_nvenc=$4

if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
	echo "skipped: no NVIDIA GPU here (nvidia-smi names none)"
	exit 77
fi
. "$(dirname "$0")/nvenc.sh"
before=${LD_LIBRARY_PATH:-}
libraries=$fake_nvenc:$before

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
start --gpu-memory 8G --slots 48 --source g=pattern:1920x1080@60:BGRA:gpu --source n=pattern:1280x720@60:NV12:gpu
grep "gpu=" "$tmp/log"

registered=" registered=([0-9]+) pointers=\1 unregistered=\1 "
declare -A size=([g]=1920x1080 [n]=1280x720) psnr=([g]=40 [n]=0)
for stream in g n; do
	encode 0 -c h264_nvenc --queue fifo:32 --stream $stream --frames 120 --verbose "$tmp/$stream.mp4"
	grep "copied once" "$tmp/out" && fail "frames of $stream are copied"
	pictures "what comes out is $stream" "$tmp/$stream.mp4" 120 "${size[$stream]}" "${psnr[$stream]}"
	holds "each slot of $stream is registered once" "$registered.* kept=1 "
done
encode 0 -c h264_nvenc -o bf=2 --queue fifo:32 --stream g --frames 60 "$tmp/b.mp4"
says "B-frames take a copy" "each picture is copied once on the GPU"
pictures "and are what went in" "$tmp/b.mp4" 60 1920x1080
holds "and nothing stays" "$registered"

mib() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -1; }
encode 0 -c h264_nvenc --stream g --frames 5 "$tmp/r.mp4"
had=$(mib)
for _ in $(seq 10); do encode 0 -c h264_nvenc --stream g --frames 5 "$tmp/r.mp4"; done
echo "     10 restarts: GPU memory $had and $(mib) MiB"
[ "$(mib)" -le $((had + 4)) ] || fail "GPU memory is $(mib) MiB, not $had"

libraries=$before
encode 0 -c auto --stream g --frames 10 "$tmp/a.mp4"
says "auto, with the real libraries" "sluice-encode: encoding with "
grep "encoding with" "$tmp/out"
stop
