#!/bin/bash
# tests/test_bench.sh SLUICE-BENCH SLUICE-BROKER
#
# sluice-bench starts real brokers and consumers, and says what it saw in words and in JSON. What the
# figures are does not matter here: a test machine is no place to measure on.
set -eu
bench=$1
broker=$2
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
[ -z "$(find "$dir" -name 'sluice-bench-*')" ] || fail "a folder is left: $(ls "$dir")"
echo "sluice-bench runs and reports"
