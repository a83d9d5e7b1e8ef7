#!/bin/bash
# tests/test_package.sh BUILD-DIR COMPILER [SANITIZERS]
#
# Installs libsluice into a folder of its own and uses it as a stranger would: pkg-config, CMake,
# and nothing of this tree but the installed files and the README's program. Then looks at what the
# library exports. Last, installs everything, and sees that it starts from wherever it is.
set -eu
build=$(realpath "$1")
compiler=$2
flags=(-Wall -Wextra -Werror ${3:+-fsanitize=$3})
source=$(realpath "$(dirname "$0")/..")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# Moved after it was installed: nothing in it may remember where it was.
env -u DESTDIR cmake --install "$build" --component libsluice --prefix "$dir/installed" \
	>"$dir/log" || fail "cmake --install: $(cat "$dir/log")"
mv "$dir/installed" "$dir/moved"
pc=$(find "$dir/moved" -name sluice.pc)
[ -n "$pc" ] || fail "no sluice.pc is installed"
export PKG_CONFIG_PATH=${pc%/*}
library=$(find "$dir/moved" -name 'libsluice.so.0')
export LD_LIBRARY_PATH=${library%/*}

cd "$dir"
# shellcheck disable=SC2016 # the README's fence, no command
sed -n '/^```c$/,/^```$/{/^```/!p}' "$source/README.md" >example.c
diff "$source/consumer/example.c" example.c >difference ||
	fail "consumer/example.c (<) and README.md (>) differ: $(cat difference)"
pkg-config --exists sluice || fail "pkg-config does not find sluice"
# shellcheck disable=SC2046 # words are wanted
"$compiler" "${flags[@]}" -o example example.c $(pkg-config --cflags --libs sluice) ||
	fail "the example does not build with pkg-config"
cat >cxx.cc <<'END'
#include <sluice_consumer.h>

int main()
{
	return !sluice_error(nullptr);
}
END
# shellcheck disable=SC2046
if command -v c++ >/dev/null && [ -z "${3:-}" ]; then
	c++ -Wall -Wextra -Werror -o cxx cxx.cc $(pkg-config --cflags --libs sluice) ||
		fail "the header does not build as C++"
	./cxx || fail "the C++ program fails"
fi

# It runs, and says in one sentence that there is no broker.
set +e
said=$(SLUICE_SOCKET=/nonexistent/s ./example 2>&1)
status=$?
set -e
if [ "$status" != 1 ] || [[ $said != *"no broker listens at /nonexistent/s"* ]]; then
	fail "the example ends with $status and says: $said"
fi

cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(stranger LANGUAGES C)
find_package(sluice 0.1 REQUIRED)
add_executable(stranger example.c)
target_link_libraries(stranger PRIVATE sluice::sluice)
END
cmake -G Ninja -S . -B out -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="${flags[*]}" \
	-DCMAKE_PREFIX_PATH="$dir/moved" >log 2>&1 || fail "find_package(sluice): $(tail -20 log)"
cmake --build out >log 2>&1 || fail "the example does not build with CMake: $(tail -20 log)"

# What the header declares is what is exported, under the version, and nothing else.
grep -oE '\bsluice_[a-z_]+\(' "$dir/moved/include/sluice_consumer.h" | tr -d '(' | sort -u >declared
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort -u >exported
sed 's/$/@@SLUICE_0/' declared | diff - exported >difference ||
	fail "declared (<) and exported (>) differ: $(cat difference)"
readelf -d "$library" | grep -q 'SONAME.*\[libsluice.so.0\]' ||
	fail "the SONAME is not libsluice.so.0"

# DESTDIR catches what ignores the prefix.
DESTDIR="$dir/root" cmake --install "$build" --prefix /odd/prefix >log ||
	fail "cmake --install: $(cat log)"
strays=$(find root -path root/odd/prefix -prune -o ! -type d -print)
[ -z "$strays" ] || fail "installed outside of the prefix: $strays"
mv root/odd/prefix everything
for unit in sluice.service sluice.socket; do
	[ -f "everything/lib/systemd/user/$unit" ] || fail "$unit is not installed"
done
# systemd judges the units where it is at hand, with the program where it lies now.
if command -v systemd-analyze >/dev/null; then
	mkdir -p units run
	cp everything/lib/systemd/user/sluice.socket units/
	sed "s|^ExecStart=.*|ExecStart=$PWD/everything/bin/sluice-broker|" \
		everything/lib/systemd/user/sluice.service >units/sluice.service
	XDG_RUNTIME_DIR=$PWD/run SYSTEMD_LOG_LEVEL=warning \
		systemd-analyze verify --user --man=no units/sluice.service units/sluice.socket >log 2>&1
	grep -q 'units/sluice' log && fail "systemd does not like the units: $(cat log)"
fi
for program in everything/bin/*; do
	said=$(env -u LD_LIBRARY_PATH "$program" --version 2>&1) ||
		fail "$program --version does not start: $said"
done
for program in sluice sluice-broker sluice-snap; do
	[ -x "everything/bin/$program" ] || fail "$program is not installed"
done

echo "the installed package compiles, links and runs; $(wc -l <exported) functions exported"
