#!/bin/bash
# tests/test_encode_gpu.sh BROKER ENCODE PATTERN-CHECK FAKE-CUDA-DIR FAKE-NVENC-DIR
#
# sluice-encode with frames in GPU memory: a broker on a software renderer, NVENC's double over that of
# CUDA, and which encoder is chosen. 77: there is no Vulkan device here, which is a failure with
# SLUICE_TEST_MUST.
# shellcheck disable=SC1091,SC2034,SC2154 # nvenc.sh uses and sets these; it is not followed
set -u
broker=$1 encode=$2 check=$3 fake_cuda=$4 fake_nvenc=$5
. "$(dirname "$0")/nvenc.sh"
libraries=$fake_cuda:$fake_nvenc

skip() {
	echo "skipped: $1"
	[ -z "${SLUICE_TEST_MUST:-}" ] || fail "and it must not be (SLUICE_TEST_MUST)"
	exit 77
}

start --slots 24 --source g=pattern:640x360@30:BGRx:gpu --source n=pattern:640x360@30:NV12:gpu \
	--source h=pattern:320x240@30 --source o=pattern:641x361@30:BGRx:gpu \
	--source w=pattern:8448x64@10:BGRx:gpu
grep -q "it needs a GPU" "$tmp/log" && skip "$(cat "$tmp/log")"
grep -q "listening on" "$tmp/log" || fail "the broker does not listen"
FAKE_CUDA_DEVICES=$(grep -m 1 -oP ' uuid=\K\S+' "$tmp/log") || fail "the log does not name the GPU"
export FAKE_CUDA_DEVICES

registered=" registered=([0-9]+) pointers=\1 unregistered=\1 "
encode 0 -c h264_nvenc --queue fifo:16 --stream g --frames 40 "$tmp/g.mp4"
grep -q "copied once" "$tmp/out" && fail "frames are copied"
pictures "what comes out of NVENC is what went in" "$tmp/g.mp4" 40 640x360
holds "each slot is registered once, and each frame goes with its packet" "$registered.* kept=1 "
encode 0 -c h264_nvenc --queue fifo:16 --stream n --frames 20 "$tmp/n.mp4"
pictures "NV12 too" "$tmp/n.mp4" 20 640x360 0
encode 0 -c h264_nvenc --queue fifo:16 --stream h --frames 20 "$tmp/h.mp4"
pictures "and a host stream, which the broker uploads" "$tmp/h.mp4" 20 320x240
encode 0 -c h264_nvenc --queue fifo:16 --stream o --frames 20 "$tmp/o.mp4"
pictures "odd sides are cropped" "$tmp/o.mp4" 20 640x360
holds "without a copy" "$registered"
encode 0 -c h264_nvenc -o bf=2 --queue fifo:16 --stream g --frames 30 "$tmp/b.mp4"
says "B-frames take a copy, which is said" "each picture is copied once on the GPU"
pictures "and are what went in" "$tmp/b.mp4" 30 640x360
holds "and nothing stays" "$registered"
encode 0 -c h264_nvenc --holds 3 --stream g --frames 10 "$tmp/s.mp4"
says "so do holds that are not reserved" "without reserved holds"
encode 0 -c h264_nvenc --cfr -r 60 --queue fifo:16 --stream g --frames 60 "$tmp/c.mp4"
# a machine that is slowed down cannot encode 60 a second
if [ "${TEST_SLOWNESS:-1}" = 1 ]; then
	grep -qE ", repeated ([12]?[0-9]|3[0-9])$" "$tmp/out" || fail "60 a second of 30: $(cat "$tmp/out")"
	echo "ok   a constant rate loses none"
fi
encode 0 -c h264_nvenc -pix_fmt yuv420p --queue fifo:16 --stream g --frames 20 "$tmp/y.mp4"
# its chroma sits left, and the checker's in the middle
pictures "the broker converts to what was asked for" "$tmp/y.mp4" 20 640x360 35
encode 1 -c h264_nvenc -pix_fmt nv12 --format BGRx --stream g --frames 10 "$tmp/none.mp4"
says "unless another form was" "leave --format out"

encode 0 -c auto --stream w --frames 3 "$tmp/w.mkv"
says "auto: what NVENC cannot encode is libx264's" "encoding with libx264 on the CPU, not on"
encode 1 -c auto --require-gpu --stream nobody --frames 3 "$tmp/none.mp4"
says "whose GPU, without a stream" "there is no stream \"nobody\" whose GPU could encode"
encode 0 -c auto --stream g --frames 10 "$tmp/a.mp4"
says "auto: NVENC where it opens" "encoding with h264_nvenc on Fake CUDA device 0"
[ "$(grep -c "sluice-encode: " "$tmp/out")" = 1 ] || fail "more than one line"
export FAKE_NVENC_FAIL=nvEncOpenEncodeSessionEx=2
encode 0 -c auto --stream g --frames 10 "$tmp/a.mp4"
says "auto: else libx264, with the driver's reason" "encoding with libx264 on the CPU, not on"
says "which is NVENC's" "OpenEncodeSessionEx failed: unsupported device"
[ "$(grep -c "sluice-encode: " "$tmp/out")" = 1 ] || fail "more than one line"
encode 1 -c auto --require-gpu --stream g --frames 10 "$tmp/none.mp4"
says "a GPU that is required and cannot encode is an error" "--require-gpu: no encoder opens on"
encode 1 -c h264_nvenc --stream g --frames 10 "$tmp/none.mp4"
says "so is NVENC that was asked for and does not open" "OpenEncodeSessionEx failed: unsupported device"
encode 1 -c hevc_nvenc --stream g --frames 10 "$tmp/none.mp4"
unset FAKE_NVENC_FAIL
libraries=
encode 0 -c auto --stream g --frames 10 "$tmp/a.mp4"
says "auto, without a driver" "libcuda.so.1 cannot be opened"
encode 1 -c auto --require-gpu --stream g --frames 10 "$tmp/none.mp4"
says "a GPU that is required, without a driver" "libcuda.so.1 cannot be opened"
encode 1 -c h264_nvenc --stream g --frames 10 "$tmp/none.mp4"
says "NVENC without a driver" "Cannot load libcuda.so.1"
encode 2 -c libx264 --require-gpu --stream g --frames 10 "$tmp/none.mp4"
says "libx264 where a GPU is required" "libx264 encodes on the CPU"
[ ! -e "$tmp/none.mp4" ] || fail "something was written before it was refused"
stop
