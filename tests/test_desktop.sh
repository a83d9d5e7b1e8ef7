#!/bin/bash
# tests/test_desktop.sh BROKER SNAP PNG_EXPECT
#
# The main job on real input: a compositor, a window with a known picture, the broker that captures
# the screen, and a client that gets what the compositor drew. The window shows four coloured blocks
# whose colours change when they are told to, so a black, foreign or frozen picture fails.
set -u

# Drawn inside the terminal: the four quarters, again and again, in the colours of a file.
if [ "${1:-}" = --draw ]; then
	printf '\e[?25l'
	while read -r a b c d <"$2"; do
		read -r rows columns < <(stty size)
		printf -v half '%*s' $((columns / 2)) ''
		printf -v rest '%*s' $((columns - columns / 2)) ''
		for ((row = 1; row <= rows; row++)); do
			if ((row <= rows / 2)); then left=$a right=$b; else left=$c right=$d; fi
			printf '\e[%d;1H\e[48;2;%sm%s\e[48;2;%sm%s' "$row" "$left" "$half" "$right" "$rest"
		done
		sleep .2
	done
	exit
fi

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${NODE:-}" ]; then
	exec "$here/session.sh" --compositor "$here/mutter-cast.py" "$here/test_desktop.sh" "$@"
fi
broker=$1 snap=$2 png_expect=$3
if ! command -v foot >/dev/null; then
	echo "test_desktop.sh: foot is not installed (scripts/test installs it)" >&2
	[ -z "${SLUICE_TEST_MUST:-}" ] || exit 1
	exit 77
fi

dir=$XDG_RUNTIME_DIR
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait' EXIT
fail() {
	echo "FAIL: $*" >&2
	tail -n 20 "$dir/broker.log" "$dir/foot.log" >&2
	exit 1
}

# decimal R;G;B for the terminal, hexadecimal for the picture: red, green, blue, yellow
ansi=('200;30;40' '20;160;60' '30;60;210' '230;200;20')
hex=(c81e28 14a03c 1e3cd2 e6c814)

# show N: turn the blocks by N. In one go, so that the reader never sees a part of it.
show() {
	for i in 0 1 2 3; do printf '%s ' "${ansi[($1 + i) % 4]}"; done >"$dir/colours.new"
	echo >>"$dir/colours.new"
	mv "$dir/colours.new" "$dir/colours"
}

# sees N: does a client get the picture of show N? Away from the middle, where the quarters meet.
sees() {
	"$snap" --stream desktop "$dir/desktop.png" >"$dir/snap.log" 2>&1 || return 1
	"$png_expect" "$dir/desktop.png" \
		".1,.1=${hex[$1 % 4]}" ".4,.4=${hex[$1 % 4]}" \
		".6,.1=${hex[($1 + 1) % 4]}" ".9,.4=${hex[($1 + 1) % 4]}" \
		".1,.6=${hex[($1 + 2) % 4]}" ".4,.9=${hex[($1 + 2) % 4]}" \
		".6,.6=${hex[($1 + 3) % 4]}" ".9,.9=${hex[($1 + 3) % 4]}" >"$dir/expect.log" 2>&1
}

comes_to_see() {
	for ((try = 0; try < 100; try++)); do
		sees "$1" && return
		sleep .1
	done
	return 1
}

show 0
LANG=C.UTF-8 foot --fullscreen --override=pad=0x0 "$here/test_desktop.sh" --draw "$dir/colours" \
	>"$dir/foot.log" 2>&1 &
pids+=($!)
"$broker" --source "desktop=pipewire:id=$NODE" >"$dir/broker.log" 2>&1 &
pids+=($!)

for turn in 0 1 2 3; do
	show "$turn"
	comes_to_see "$turn" ||
		fail "turn $turn was not captured: $(cat "$dir/snap.log" "$dir/expect.log" 2>/dev/null)"
	sees $((turn + 1)) && fail "the check takes turn $turn for the next one"
done
kill -0 "${pids[1]}" || fail "the broker has ended"
echo "ok   the desktop's known picture was captured, four times another one"
