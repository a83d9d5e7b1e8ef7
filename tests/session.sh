#!/bin/bash
# tests/session.sh [--compositor] CMD...
#
# Run CMD in a desktop session of its own: D-Bus, PipeWire and WirePlumber in a fresh
# XDG_RUNTIME_DIR; with --compositor also Mutter without a screen (SIZE=1280x720), software
# rendered, with WAYLAND_DISPLAY set. Works as root and as a user, beside a running desktop, and
# ends only what it started.
#
# Exit status: that of CMD; 77 if a program is missing, or 70 with SLUICE_TEST_MUST; 70 if the session
# could not be started.
set -u

compositor=
if [ "${1:-}" = --compositor ]; then
	compositor=1
	shift
fi
if [ $# -eq 0 ]; then
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
	exit 2
fi

for program in dbus-daemon pipewire pw-cli wireplumber ${compositor:+mutter gdbus}; do
	command -v "$program" >/dev/null && continue
	echo "session.sh: $program is not installed (scripts/test installs it)" >&2
	[ -z "${SLUICE_TEST_MUST:-}" ] || exit 70
	exit 77
done

# WirePlumber 0.4 ends at once where logind's folders do not exist, as in containers.
logind=/run/systemd
if ! mkdir -p $logind/seats $logind/sessions $logind/users $logind/machines 2>/dev/null; then
	echo "session.sh: $logind/seats does not exist: run once as root" >&2
fi

unset DISPLAY WAYLAND_DISPLAY PIPEWIRE_REMOTE PIPEWIRE_RUNTIME_DIR PULSE_SERVER
XDG_RUNTIME_DIR=$(mktemp -d "${TMPDIR:-/tmp}/sluice-session.XXXXXX") || exit 70
export XDG_RUNTIME_DIR
export HOME=$XDG_RUNTIME_DIR/home
export XDG_CONFIG_HOME=$HOME/.config XDG_STATE_HOME=$HOME/.local/state
export XDG_CACHE_HOME=$HOME/.cache XDG_DATA_HOME=$HOME/.local/share
export DBUS_SESSION_BUS_ADDRESS=unix:path=$XDG_RUNTIME_DIR/bus
export GSETTINGS_BACKEND=memory
mkdir -p "$XDG_CONFIG_HOME" "$XDG_STATE_HOME" "$XDG_CACHE_HOME" "$XDG_DATA_HOME"

pids=()
end_session() {
	trap - EXIT INT TERM
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill "${pids[i]}" 2>/dev/null
		wait "${pids[i]}" 2>/dev/null
	done
	rm -rf "$XDG_RUNTIME_DIR"
}
trap end_session EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# begin NAME CMD...: in the background, with a log; it dies with this shell even if that is SIGKILLed.
begin() {
	local log=$XDG_RUNTIME_DIR/$1.log
	shift
	setpriv --pdeathsig TERM "$@" >"$log" 2>&1 &
	pids+=($!)
}

# until_true NAME CMD...: wait up to 20 s for CMD to succeed, while the program still runs.
until_true() {
	local name=$1
	shift
	for ((i = 0; i < 400; i++)); do
		"$@" >/dev/null 2>&1 && return
		kill -0 "${pids[-1]}" 2>/dev/null || break
		sleep .05
	done
	echo "session.sh: $name did not start; its last words:" >&2
	tail -n 15 "$XDG_RUNTIME_DIR/$name.log" >&2
	exit 70
}

wireplumber_is_there() {
	pw-cli ls Client 2>/dev/null | grep -q WirePlumber
}
mutter_is_there() {
	[ -S "$XDG_RUNTIME_DIR/sluice-desktop" ] &&
		gdbus introspect --session --dest org.gnome.Mutter.ScreenCast \
			--object-path /org/gnome/Mutter/ScreenCast
}

begin dbus dbus-daemon --session --nofork --nopidfile --address="$DBUS_SESSION_BUS_ADDRESS"
until_true dbus test -S "$XDG_RUNTIME_DIR/bus"
begin pipewire pipewire
until_true pipewire test -S "$XDG_RUNTIME_DIR/pipewire-0"
begin wireplumber wireplumber
until_true wireplumber wireplumber_is_there
if [ -n "$compositor" ]; then
	begin mutter env XDG_SESSION_TYPE=wayland XDG_CURRENT_DESKTOP=GNOME LIBGL_ALWAYS_SOFTWARE=1 \
		mutter --headless --wayland --no-x11 --wayland-display sluice-desktop \
		--virtual-monitor "${SIZE:-1280x720}"
	until_true mutter mutter_is_there
	export WAYLAND_DISPLAY=sluice-desktop XDG_SESSION_TYPE=wayland
fi

# In the background, because bash runs its traps only between commands of the foreground.
env --default-signal=INT,QUIT setpriv --pdeathsig TERM "$@" <&0 &
pids+=($!)
wait $!
rc=$?
unset 'pids[-1]'
exit $rc
