#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Includes point along the arrows, never against them:
#
#     mm/      mm/                                no libuv, protobuf, systemd, sockets, files
#     shm/     shm/                               no libuv, protobuf, systemd
#     proto/   proto/
#     client/  client/ shm/ proto/ <kmm/...>
#     daemon/  daemon/ mm/ shm/ proto/            not client/
#
# What stands in quotes without a folder is a file of the same folder or generated.
set -u
cd "${KMM_SRCDIR:-$(dirname "$0")/..}" || exit 1
errors=0
files=0

# layer FOLDER ALLOWED FORBIDDEN: two regular expressions, on "folder/" and on <system headers>.
layer() {
	local folder=$1 allowed=$2 forbidden=$3 file line header

	while IFS= read -r file; do
		files=$((files + 1))
		while IFS=: read -r line header; do
			case $header in
			\"*/*) [[ ${header#\"} =~ ^($allowed) ]] && continue ;;
			\"*) continue ;;
			\<*) [[ ! ${header#<} =~ ^($forbidden) ]] && continue ;;
			esac
			echo "$file:$line: $folder/ must not include $header"
			errors=$((errors + 1))
		done < <(sed -nE '/^[[:space:]]*#[[:space:]]*include/{=;s/^[^"<]*(["<][^">]*[">]).*/\1/p}' "$file" |
			paste -d: - -)
	done < <(find "$folder" -name '*.[ch]' | sort)
}

network='sys/socket\.h|sys/un\.h|netinet/|arpa/'
files_io='fcntl\.h|sys/stat\.h|sys/mman\.h|dirent\.h'
outside='uv\.h|protobuf-c|pb[_.]|pb\.h|systemd/|json-c/|ini\.h'
ours='kmm/|daemon/|client/'

layer mm 'mm/' "$outside|$network|$files_io|$ours|shm/|proto/"
layer shm 'shm/' "$outside|$ours|mm/|proto/"
layer proto 'proto/' "uv\.h|systemd/|json-c/|ini\.h|$ours|mm/|shm/"
layer client '(client|shm|proto)/' 'uv\.h|protobuf-c|systemd/|ini\.h|daemon/|mm/'
layer daemon '(daemon|mm|shm|proto)/' 'kmm/|client/|json-c/|pb\.h'

if [ "$files" -lt 40 ]; then
	echo "only $files files were found: this check looks in the wrong place"
	errors=$((errors + 1))
fi
echo "$files files looked at"
if [ "$errors" -eq 0 ]; then
	echo "1 passed, 0 failed"
else
	echo "0 passed, 1 failed"
	exit 1
fi
