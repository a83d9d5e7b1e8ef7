#!/bin/bash
# tests/layers.sh [ROOT]
#
# Fails on an #include that points the wrong way, on a call that belongs to another layer, and on a
# source file that has no rule. Then it plants one mistake of each kind in a tree of its own and
# fails if one of them is not found.
set -u
export LC_ALL=C

# What only some layers may include: our own folders, generated code and third parties.
fenced='^(common|proto|broker|producer|consumer|tests)/|\.pb-c\.h$|^(vulkan|pipewire|spa|event2|libav[a-z]+|libsw[a-z]+|systemd|cuda|ffnvcodec|nvEncodeAPI|ini\.h|png\.h|jansson|protobuf-c)'

# FILES, then what they may include of the above. The first row that matches a file decides.
rules='
common/loop\.c                     common/|event2/
common/                            common/
proto/                             common/|proto/|.*\.pb-c
broker/gpu/                        common/|broker/gpu/|vulkan/
broker/capture/pipewire            common/|broker/(capture/|frame|gpu/gpu)|pipewire/|spa/
broker/capture/                    common/|broker/(capture/|frame|gpu/gpu)
broker/frame\.                     common/|broker/frame
broker/memory\.                    common/|broker/memory
broker/slots\.                     common/|broker/(slots|memory)
broker/pool\.                      common/|broker/(pool|frame)
broker/backlog\.                   common/|broker/(backlog|pool|frame)
broker/(access|quota)\.            common/|broker/(access|quota)
broker/fanout\.                    common/|broker/(fanout|pool|frame)
broker/form\.                      common/|broker/form
broker/(scale|no_scale)\.          common/|broker/scale|libav|libsw
broker/generation\.                common/|proto/control|broker/(generation|slots|memory|pool|fanout|frame)
broker/(stream|due|catalog)\.      common/|proto/control|broker/(stream|due|catalog|generation|fanout|form|pool|frame)
broker/gpu_slots\.                 common/|broker/(gpu_slots|slots|gpu/gpu)
broker/imports\.                   common/|broker/(imports|gpu/gpu)
broker/cpu_job\.                   common/|broker/(cpu_job|scale|capture/capture)
broker/(bridge|way|lane)\.         common/|broker/(bridge|way|lane|cpu_job|backlog|imports|scale|stream|due|generation|form|pool|frame|capture/capture|gpu/gpu)
broker/devices\.                   common/|broker/(devices|gpu_slots|slots|server|gpu/gpu)
broker/gate\.                      common/|proto/wire|broker/(gate|access)
broker/(client|server|subscription|request|status|describe)\.  common/|proto/|.*\.pb-c|broker/(client|server|subscription|request|status|describe|gate|access|quota|catalog|stream|due|fanout|form|generation|pool|frame)\.
broker/settings\.                  common/|proto/wire|broker/(settings|server)\.|ini\.h
broker/socket\.                    common/|broker/socket|systemd/
broker/source\.                    common/|broker/(source|bridge|devices|gpu_slots|settings|server|stream|generation|slots|memory|fanout|pool|frame|capture/capture|gpu/gpu)
broker/broker\.                    common/|broker/
broker/main\.                      common/|broker/|systemd/
consumer/encoder/(cuda_loader|gpu|nvenc)\.  common/|consumer/encoder/|libav|ffnvcodec/
consumer/encoder/nvjpeg_gpu\.      common/|consumer/(sluice_consumer|encoder/)|ffnvcodec/
consumer/encoder/                  common/|consumer/(sluice_consumer|encoder/)|libav|libsw
consumer/check/                    common/|consumer/(sluice_consumer|check/)|cuda|ffnvcodec|vulkan/
consumer/import_cuda\.             common/|consumer/[a-z_]+\.h|ffnvcodec/
consumer/import_vulkan\.           common/|consumer/[a-z_]+\.h|vulkan/
consumer/snap/                     common/|consumer/(sluice_consumer|snap/)|libsw|png
consumer/cli/                      common/|consumer/(sluice_consumer|status|text|cli/)
consumer/bench/copy\.              common/|consumer/(sluice_consumer|json|bench/)|broker/capture/pipewire
consumer/bench/gpu_floor\.         common/|broker/gpu/gpu|consumer/bench/
consumer/bench/floor\.             common/|proto/wire|consumer/bench/
consumer/bench/                    common/|consumer/(sluice_consumer|json|bench/)
consumer/                          common/|proto/|.*\.pb-c|consumer/[a-z_]+\.h
producer/                          common/|proto/|.*\.pb-c|producer/
tests/                             .*
'

# FILES that alone may call CALLS.
calls='
(proto/wire|consumer/bench/floor)\.c     (sendmsg|recvmsg|sendmmsg|recvmmsg)
(common/worker\.c|consumer/(bench/|encoder/link\.c))        (pthread_create|thrd_create)
'

sources() {
	find . \( -path ./build -o -path ./out -o -path './.*' \) -prune -o -name '*.[ch]' -print |
		sed 's|^\./||' | sort
}

check_includes() {
	local file pattern allowed
	while read -r file; do
		while read -r pattern allowed; do
			[[ -n $pattern && $file =~ ^$pattern ]] && break
		done <<<"$rules"
		if [ -z "$allowed" ]; then
			echo "$file has no rule in tests/layers.sh"
			continue
		fi
		grep -oP '^\s*#\s*include\s*[<"]\K[^>"]+' "$file" | grep -E "$fenced" |
			grep -vE "^($allowed)" | sed "s|^|$file must not include |"
	done < <(sources)
}

check_calls() {
	local pattern names
	while read -r pattern names; do
		[ -n "$pattern" ] || continue
		sources | grep -vE "^($pattern|tests/)" | xargs -r grep -HoP "\b$names\(" |
			sed 's/\(.*\):\(.*\)(/\1 must not call \2()/' | sort -u
	done <<<"$calls"
}

check() {
	check_includes
	check_calls
}

# plant FILE LINE: a mistake that check must name.
plant() {
	mkdir -p "$(dirname "$1")"
	printf '%s\n' "$2" >>"$1"
}

plant_mistakes() {
	plant common/list.h '#include "proto/wire.h"'
	plant common/worker.c '#include <event2/event.h>'
	plant proto/wire.h '#include "broker/pool.h"'
	plant broker/pool.c '#include "broker/client.h"'
	plant broker/stream.c '#  include "sluice.pb-c.h"'
	plant broker/client.c '#include <systemd/sd-daemon.h>'
	plant broker/bridge.c '#include <pipewire/pipewire.h>'
	plant broker/lane.c '#include <libswscale/swscale.h>'
	plant broker/capture/pattern.c '#include <spa/buffer/buffer.h>'
	plant broker/capture/capture.h '#include "broker/stream.h"'
	plant consumer/view.c '#include "broker/frame.h"'
	plant consumer/encoder/output.c '#include "consumer/conn.h"'
	plant consumer/cli/main.c '#include "proto/wire.h"'
	plant broker/client.c '	return recvmsg(fd, &message, 0);'
	plant consumer/conn.c '	pthread_create(&thread, NULL, run, conn);'
	plant broker/novelty.c '#include "broker/pool.h"'
	plant extra/file.c 'int x;'
}
planted=17

cd "${1:-$(dirname "$0")/..}" || exit 1
found=$(check)
if [ -n "$found" ]; then
	echo "$found"
	exit 1
fi

mock=$(mktemp -d) || exit 1
trap 'rm -rf "$mock"' EXIT
cd "$mock" || exit 1
plant_mistakes
named=$(check)
if [ "$(wc -l <<<"$named")" != "$planted" ]; then
	printf 'layers.sh found %s of %s planted mistakes:\n%s\n' "$(wc -l <<<"$named")" $planted "$named"
	exit 1
fi
echo "layers: every include points the right way; $planted planted mistakes are found"
