#!/bin/bash
# tests/test_bench.sh SLUICE-BENCH SLUICE-BROKER [SLUICE-CUDA-CHECK FOLDER VULKAN-UUID]
#
# sluice-bench starts real brokers and consumers, and says what it saw in words and in JSON. What the
# figures are does not matter here: a test machine is no place to measure on. With the rest, the
# figure gpu too, over whatever Vulkan finds and the CUDA double in FOLDER, whose device is that.
set -eu
bench=$1
broker=$2
check=${3:-}
fake_cuda=${4:-}
vulkan_uuid=${5:-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

status=0
"$bench" --quick --broker "$broker" --json "$dir/out.json" >"$dir/table" 2>"$dir/log" || status=$?
[ $status = 0 ] || fail "exit status $status: $(cat "$dir/log")"
grep -q '^cpu .* 10 consumers, .* fan-out' "$dir/table" || fail "no table: $(cat "$dir/table")"

python3 - "$dir/out.json" <<'END' || fail "the JSON is not what it should be"
import json, sys

figures = json.load(open(sys.argv[1]))["figures"]
for name in "cpu", "latency", "size", "first":
    rows = [row for row in figures if row["figure"] == name]
    assert rows, name
    for row in rows:
        assert row["of"] and row["unit"] and isinstance(row["measured"], (int, float)), row
lost = [row for row in figures if row["of"].endswith(": lost")]
assert len(lost) == 2 and all("target" in row for row in lost), lost
END

# It says what is wrong, and leaves no process and no folder behind.
status=0
TMPDIR=$dir "$bench" --only first --broker /nonexistent >/dev/null 2>"$dir/log" || status=$?
[ $status = 1 ] || fail "without a broker the exit status is $status"
grep -q 'cannot run /nonexistent: .*--broker' "$dir/log" || fail "it says: $(cat "$dir/log")"
"$bench" --consumers 1,0 2>"$dir/log" && fail "0 consumers are taken"
grep -q 'consumers is "1,0"' "$dir/log" || fail "it says: $(cat "$dir/log")"
"$bench" --consumers 4001 2>/dev/null && fail "4001 consumers are taken"

# gpu FILE ARGUMENTS...: measure it; what is said goes into FILE.
gpu() {
	local log=$1
	shift
	TMPDIR=$dir LD_LIBRARY_PATH=$fake_cuda "$bench" --only gpu --quick --broker "$broker" "$@" \
		>"$dir/table" 2>"$log"
}

gpu_rows() {
	python3 - "$1" <<'END'
import json, sys

rows = {row["of"]: row for row in json.load(open(sys.argv[1]))["figures"]}
assert all(row["figure"] == "gpu" for row in rows.values()), rows
lock, paced = "640x360, %s, complete: ", "640x360, %s, complete at 250/s: "
for n in "1 consumer", "2 consumers":
    for name in "p50", "of it copy", "of it message", "of it reading", "frames/s":
        row = rows[lock % n + name]
        assert row["measured"] > 0, row
        assert ("beside" in row) == (name != "of it reading"), row
        assert "target" not in row, row
    assert rows[paced % n + "p50"]["beside"]["measured"] > 0, rows
    assert rows[paced % n + "processor time"]["measured"] > 0, rows
    assert rows[paced % n + "GPU bytes for each more consumer"]["unit"] == "bytes", rows
    for name in "first frame, all at once", "first frame of one more":
        row = rows[paced % n + name]
        assert row["measured"] > 0 and row["target"]["value_at_most"] == 9, row
more = rows[paced % "2 consumers" + "processor time for each more consumer"]
assert more["target"]["at_most"] == 1.5 and more["beside"]["measured"] > 0, more
END
}

test_gpu() {
	status=0
	FAKE_CUDA_DEVICES=$("$vulkan_uuid" | head -n 1)
	export FAKE_CUDA_DEVICES
	gpu "$dir/log" --check "$check" --json "$dir/gpu.json" || status=$?
	if [ $status = 1 ] && [ -z "${SLUICE_TEST_MUST:-}" ] && grep -qE 'gpu: .*(Vulkan|vkCreateInstance)' "$dir/log"; then
		echo "skipped, gpu: $(cat "$dir/log")"
		return
	fi
	[ $status = 0 ] || fail "gpu: exit status $status: $(cat "$dir/log")"
	grep -q 'gpu: measured on ' "$dir/log" || fail "it says: $(cat "$dir/log")"
	gpu_rows "$dir/gpu.json" || fail "the JSON of gpu is not what it should be"

	status=0
	gpu "$dir/log" --check /nonexistent || status=$?
	[ $status = 1 ] || fail "without sluice-cuda-check the exit status is $status"
	grep -q 'cannot run /nonexistent: .*--check' "$dir/log" || fail "it says: $(cat "$dir/log")"

	status=0
	VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent \
		gpu "$dir/log" --check "$check" || status=$?
	[ $status = 1 ] || fail "without a GPU the exit status is $status"
	grep -qE 'gpu: .*(Vulkan|vkCreateInstance)' "$dir/log" || fail "it says: $(cat "$dir/log")"
}

convert_rows() {
	python3 - "$1" <<'END'
import json, sys

rows = {row["of"]: row for row in json.load(open(sys.argv[1]))["figures"]}
assert all(row["figure"] == "convert" for row in rows.values()), rows
for to in "NV12 320x180", "P010 320x180", "I420 320x180", "NV12 106x60":
    time = rows["BGRx 320x180 to %s: time" % to]
    share = rows["BGRx 320x180 to %s: of the copy's bandwidth" % to]
    assert time["unit"] == "us" and time["measured"] > 0 and time["beside"]["measured"] > 0, time
    assert abs(share["measured"] - 100 / time["ratio"]) < 0.1, (share, time)
END
}

test_convert() {
	status=0
	"$bench" --only convert --quick --json "$dir/convert.json" >"$dir/table" 2>"$dir/log" || status=$?
	if [ $status = 1 ] && [ -z "${SLUICE_TEST_MUST:-}" ] && grep -qE 'gpu: .*(Vulkan|vkCreateInstance)' "$dir/log"; then
		echo "skipped, convert: $(cat "$dir/log")"
		return
	fi
	[ $status = 0 ] || fail "convert: exit status $status: $(cat "$dir/log")"
	convert_rows "$dir/convert.json" || fail "the JSON of convert is not what it should be"
}

encode_rows() {
	python3 - "$1" <<'END'
import json, sys

rows = {row["of"]: row for row in json.load(open(sys.argv[1]))["figures"]}
assert all(row["figure"] == "encode" for row in rows.values()), rows
for name in "encoded", "processor time of a frame", "processor time at 60 frames/s":
    row = rows["320x240: " + name]
    assert row["measured"] > 0 and row["beside"]["measured"] > 0, row
loop = rows["320x240: broker's event loop, of that"]
copy = rows["320x240: broker's copy thread (draws the picture), of that"]
assert 0 < loop["measured"] < 100 and 0 < copy["measured"] < 100, (loop, copy)
assert rows["320x240: of a core meanwhile"]["measured"] > 0, rows
END
}

test_encode() {
	status=0
	TMPDIR=$dir "$bench" --only encode --quick --broker "$broker" --json "$dir/encode.json" \
		>"$dir/table" 2>"$dir/log" || status=$?
	[ $status = 0 ] || fail "encode: exit status $status: $(cat "$dir/log")"
	encode_rows "$dir/encode.json" || fail "the JSON of encode is not what it should be"
}

test_convert
# Where sluice-encode was built, it is beside sluice-bench.
if [ -x "$(dirname "$bench")/../encoder/sluice-encode" ]; then
	test_encode
fi
if [ -n "$check" ]; then
	test_gpu
fi
[ -z "$(find "$dir" -name 'sluice-bench-*')" ] || fail "a folder is left: $(ls "$dir")"
echo "sluice-bench runs and reports"
