#!/bin/bash
# tests/valgrind.sh PROGRAM [ARGUMENT...]
#
# Run a test program under valgrind. Fails on an error, on lost memory, and on a descriptor that it,
# or a child that it forked, still has open at its end.
#
# Exit status: 0 clean or skipped (77); 1 a test failed or valgrind found something.
set -u

name=$(basename "$1")
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT

# Newer versions count descriptors that were open before as errors: begin with the standard three.
without_inherited() (
	for entry in /proc/"$BASHPID"/fd/*; do
		fd=${entry##*/}
		[ "$fd" -le 2 ] || exec {fd}>&-
	done
	exec "$@"
)
without_inherited valgrind --track-fds=yes --leak-check=full \
	--errors-for-leak-kinds=definite,possible --error-exitcode=99 --log-file="$logs/%p" \
	"$@" >"$logs/output" 2>&1
status=$?

# Each open descriptor is some lines, the last of which is "<inherited from parent>" if it was so.
# Not counted: valgrind's own log, and what a process had open that was to be ended by an assert.
leaked=$(grep -LE "terminating with default action of signal 6" "$logs"/[0-9]* | xargs -r cat |
	awk -v own="$logs/" '
	function flush() { if (open && !inherited) print open; open = ""; inherited = 0 }
	/Open .*(descriptor|socket) [0-9]+/ { flush(); open = $0; inherited = index($0, own); next }
	/<inherited from parent>/ { inherited = 1 }
	/== *$/ { flush() }
	open { open = open "\n" $0 }
	END { flush() }')

if { [ $status = 0 ] || [ $status = 77 ]; } && [ -z "$leaked" ]; then
	echo "valgrind: $name: clean, $(tail -n 1 "$logs/output")"
	exit 0
fi
echo "valgrind: $name: FAILED with exit status $status"
cat "$logs/output"
if [ -n "$leaked" ]; then
	printf 'left open:\n%s\n' "$leaked"
fi
grep -LE 'ERROR SUMMARY: 0 errors' "$logs"/[0-9]* | xargs -r cat
exit 1
