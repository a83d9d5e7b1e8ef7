#!/bin/bash
# tests/two-gpus.sh CMD...
#
# Run CMD where Vulkan has two devices with different UUIDs, on any machine: the lavapipe of the
# distribution's Mesa and the one of Mesa 25 that scripts/fetch put into build/fetched (it is not
# fetched from here: tests use no network). No other driver is seen. Which device is the first, the
# Vulkan loader decides: go by UUID.
#
# Exit status: that of CMD; 77 if there cannot be two; 70 if there should be two and are not, or, with
# SLUICE_TEST_MUST, if a package or scripts/fetch would give them.
set -u
mesa=$(dirname "$0")/../build/fetched/mesa

not_for_here() {
	echo "two-gpus.sh: skipped: $1"
	exit 77
}
skip() {
	[ -z "${SLUICE_TEST_MUST:-}" ] || { echo "two-gpus.sh: $1" && exit 70; }
	not_for_here "$1"
}

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
mesa=$(realpath -e "$mesa" 2>/dev/null) ||
	skip "a second Vulkan device needs Mesa 25, which is not there: run scripts/fetch mesa"
own=$(echo /usr/share/vulkan/icd.d/lvp_icd*.json)
[ -f "$own" ] || skip "mesa-vulkan-drivers is not installed: run scripts/setup test"
own_library=$(sed -n 's/.*"library_path": *"\(.*\)".*/\1/p' "$own")
[[ $own_library == /* ]] || own_library=$(echo /usr/lib/*/"$own_library")
! cmp -s "$own_library" "$mesa/lib/libvulkan_lvp.so" ||
	not_for_here "this distribution's own Mesa is the newer one already"

export VK_DRIVER_FILES=$own:$mesa/lavapipe.json
export VK_ICD_FILENAMES=$VK_DRIVER_FILES
export LD_LIBRARY_PATH=$mesa/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if command -v vulkaninfo >/dev/null; then
	found=$(vulkaninfo --summary 2>/dev/null | awk '$1 == "deviceUUID" { print $3 }' | sort -u)
	if [ "$(wc -w <<<"$found")" != 2 ]; then
		echo "two-gpus.sh: not two devices from $VK_DRIVER_FILES but: ${found:-none}"
		exit 70
	fi
fi
exec "$@"
