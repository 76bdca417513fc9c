#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The example pipeline writes what grep, awk and tr write, whatever the text; its stages work by
# themselves in any order; it outlives the daemon; and when a stage dies nothing is left over.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

pipeline=${KMM_BUILDDIR:-.}/pipeline
examples=${KMM_SRCDIR:-.}/contrib/examples
text=$test_dir/text
export LC_ALL=C

# by_coreutils DELIMITER COLUMNS MATCH <FILE: COLUMNS as awk expressions between commas, or "".
by_coreutils() {
	local program="{ print ${2:-\$0} }"

	grep -a -F -- "$3" | awk -F"[$1]" -v OFS="$1" "$program" | tr a-z A-Z
}

# agrees DELIMITER COLUMNS MATCH: on $text; COLUMNS as for pipeline, "" all.
agrees() {
	local options=(--socket "$daemon_socket" --delimiter "$1") awk_columns

	[ -z "$2" ] || options+=(--columns "$2")
	[ -z "$3" ] || options+=(--match "$3")
	awk_columns=$(printf '%s' "$2" | sed 's/[0-9][0-9]*/$&/g')
	"$pipeline" run "${options[@]}" "$text" >"$test_dir/ours" </dev/null || return 1
	by_coreutils "$1" "$awk_columns" "$3" <"$text" >"$test_dir/theirs"
	cmp "$test_dir/ours" "$test_dir/theirs"
}

frames_free() {
	ctl drop-caches >/dev/null && ctl buddyinfo |
		awk '{ for (i = 5; i <= NF; i++) n += $i * 2 ^ (i - 5) } END { print n }'
}

idle() { [ "$(ctl --json sessions | grep -c '"pid"')" -eq 0 ]; }
cache_is_gone() { ! ctl slabinfo | grep -q '^pipeline-message '; }
slabs_shrink() {
	ctl slabinfo | awk 'NR > 2 && $15 > 0 { print $1 }' | while read -r cache; do
		ctl shrink "$cache" >/dev/null || return 1
	done
}

# await COMMAND...: until it succeeds.
await() {
	local tries=0

	until "$@"; do
		[ $((tries += 1)) -lt 1200 ] || {
			echo "waited in vain: $*"
			return 1
		}
		sleep 0.05 # states of other processes send no event
	done
}

# Objects, pages, names: all is as at the start.
everything_is_free() {
	await idle && await cache_is_gone && slabs_shrink || return 1
	[ "$(ctl --json leaks | tr -d ' \n')" = '[]' ] || {
		ctl leaks
		return 1
	}
	[ "$(frames_free)" -eq "$1" ] && ctl fsck
}

daemon_start --pool-size 64M --backing 4k
slabs_shrink
at_start=$(frames_free)

# ---- whatever the text ----

: >"$text"
check "an empty file" agrees , 1 ''
printf 'one' >"$text"
check "one line without an end" agrees , '' ''
printf '\n\n,\n,,\na\n' >"$text"
check "empty lines and columns" agrees , 2,1 ''
printf '1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18\na,b\n' >"$text"
check "more columns than are noted" agrees , 16,1,16 ''
awk 'BEGIN { for (i = 0; i < 600; i++) { for (j = 0; j < i; j++) printf "%c", 97 + (i + j) % 26; print "" } }' >"$text"
check "lines around the size of the cache's objects" agrees , '' ''
{
	head -c 100000 /dev/zero | tr '\0' y && echo ,end
	head -c 4000000 /dev/zero | tr '\0' z && echo ,end
	echo short,end
} >"$text"
check "lines of 100 KB and of 4 MB" agrees , 2 ''
cat "${KMM_SRCDIR:-.}"/*.md "${KMM_SRCDIR:-.}"/mm/*.c >"$text"
check "a text, by words" agrees ' ' 2,1 ''
check "a text, lines that match" agrees ' ' '' 'the '
"$examples/sales.sh" 300000 >"$text"
check "the generator makes the same file again" cmp "$text" <("$examples/sales.sh" 300000)
check "300000 lines of CSV" agrees , 3,2,4 ''
check "300000 lines of CSV, those of one shop" agrees , 3,2,5,6 Oslo
check "no line matches" agrees , 1 'no shop of that name'
check "everything is free again" everything_is_free "$at_start"

# ---- stage by stage ----

# in_order STAGE...: each started when the one before waits.
in_order() {
	local pids=() stage pid status=0

	: >"$test_dir/out.write"
	for stage; do
		timeout 900 "$pipeline" "$stage" --socket "$daemon_socket" --columns 2 \
			>"$test_dir/out.$stage" <"$text" 2>>"$test_dir/err" &
		pids+=($!)
		await has_session "pipeline $stage" || status=1
	done
	for pid in "${pids[@]}"; do wait "$pid" || status=1; done
	[ "$status" -eq 0 ] || cat "$test_dir/err"
	[ "$status" -eq 0 ] && cmp <(cut -d, -f2 "$text" | tr a-z A-Z) "$test_dir/out.write"
}
has_session() { ctl sessions | grep -q "$1" || [ -s "$test_dir/out.write" ]; }

awk 'BEGIN { for (i = 0; i < 5000; i++) print i ",line-" i }' >"$text"
check "parse, transform, write" in_order parse transform write
check "write, transform, parse" in_order write transform parse
check "transform, write, parse" in_order transform write parse
await idle

second_end_is_refused() {
	local first status

	: >"$test_dir/out.write"
	"$pipeline" write --socket "$daemon_socket" >/dev/null 2>&1 &
	first=$!
	await has_session "pipeline write" || return 1
	"$pipeline" write --socket "$daemon_socket" 2>"$test_dir/err"
	status=$?
	kill "$first"
	wait "$first"
	[ "$status" -eq 1 ] && grep -q 'another pipeline' "$test_dir/err"
}
check "a second writer is refused" second_end_is_refused
check "the ring of the dead writer is used by the next" in_order parse transform write

# ---- the daemon is killed ----

# As many kills as are asked for, spread over the output.
through_kills() {
	local job status n killed=0 pid before=''

	mkfifo "$test_dir/fifo"
	"$pipeline" run --socket "$daemon_socket" --columns 3,2,4 "$text" >"$test_dir/fifo" 2>"$test_dir/err" &
	job=$!
	exec 9<"$test_dir/fifo"
	: >"$test_dir/ours"
	while head -c 300000 <&9 >"$test_dir/part" && [ -s "$test_dir/part" ]; do
		cat "$test_dir/part" >>"$test_dir/ours"
		[ "$killed" -lt "$1" ] || continue
		pid=$(ctl --json health 2>/dev/null | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
		[ -n "$pid" ] && [ "$pid" != "$before" ] && daemon_kill "$pid" && before=$pid &&
			killed=$((killed + 1))
	done
	exec 9<&-
	rm "$test_dir/fifo"
	wait "$job"
	status=$?
	[ "$killed" -ge 2 ] || echo "only $killed kills"
	awk -F, -v OFS=, '{ print $3, $2, $4 }' "$text" | tr a-z A-Z >"$test_dir/theirs"
	n=$(cmp "$test_dir/ours" "$test_dir/theirs" 2>&1) || echo "$n"
	cat "$test_dir/err"
	[ "$status" -eq 0 ] && [ "$killed" -ge 2 ] && cmp -s "$test_dir/ours" "$test_dir/theirs"
}

check "everything is free again" everything_is_free "$at_start"
daemon_stop
daemon_start --pool-size 64M --backing 4k --supervise
slabs_shrink
at_start=$(frames_free)
"$examples/sales.sh" 300000 >"$text"
check "the daemon is killed again and again" through_kills 10
check "everything is free again" everything_is_free "$at_start"

# ---- a stage is killed ----

# stage_dies SESSION: while all three wait for each other.
stage_dies() {
	local job status id

	mkfifo "$test_dir/fifo"
	"$pipeline" run --socket "$daemon_socket" "$text" >"$test_dir/fifo" 2>"$test_dir/err" &
	job=$!
	exec 9<"$test_dir/fifo"
	await rings_are_full || return 1
	id=$(ctl sessions | awk -v name="pipeline $1" 'index($0, name) { print $1 }')
	ctl kill "$id" >/dev/null || return 1
	wait "$job"
	status=$?
	exec 9<&-
	rm "$test_dir/fifo"
	[ "$status" -eq 1 ] || echo "status $status"
	[ "$status" -eq 1 ] && everything_is_free "$at_start"
}
rings_are_full() { [ "$(ctl slabinfo | awk '$1 == "pipeline-message" { print $2 }')" -ge 512 ] 2>/dev/null; }

check "parse is killed" stage_dies parse
check "transform is killed" stage_dies transform
check "write is killed" stage_dies write

# ---- with all that slab_debug has ----

daemon_stop
printf '[daemon]\nslab_debug = FZPU\n' >"$test_dir/config"
daemon_start --pool-size 64M --backing 4k --config "$test_dir/config"
slabs_shrink
at_start=$(frames_free)
no_reports() { [ "$(ctl --json slabinfo | sed -n 's/.*"reports": *\([0-9]*\).*/\1/p' | sort -u)" = 0 ]; }
is_debugged() { [ "$(ctl slabinfo | awk '$1 == "kmalloc-64" { print $4 }')" -gt 64 ]; }
check "objects have red zones" is_debugged
"$examples/sales.sh" 50000 >"$text"
check "the same output with debugged caches" agrees , 3,2,5,6 Oslo
check "nothing was damaged" no_reports
check "everything is free again" everything_is_free "$at_start"

# ---- the command line ----

usage_error() {
	"$pipeline" "$@" >"$test_dir/out" 2>"$test_dir/err" </dev/null
	[ $? -eq "$wanted" ] && [ ! -s "$test_dir/out" ] && [ -s "$test_dir/err" ]
}
wanted=2
check "no command" usage_error
check "an unknown command" usage_error fly
check "a file for write" usage_error write "$text"
wanted=1
check "columns that are none" usage_error run --columns 1,x "$text"
check "column 0" usage_error run --columns 0 "$text"
check "column 17" usage_error run --columns 17 "$text"
check "a letter as delimiter" usage_error run --delimiter x "$text"
check "no daemon" usage_error parse --socket "$test_dir/nobody" "$text"
check "no file" usage_error parse --socket "$daemon_socket" "$test_dir/nothing"
finish
