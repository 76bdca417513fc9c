#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The example counts what wc counts, whatever the text and wherever blocks end.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

wordcount=${KMM_BUILDDIR:-.}/wordcount
text=$test_dir/text
block=$((2 * 1024 * 1024))

# agrees OPTION...: on $text.
agrees() {
	local words expected

	words=$("$wordcount" --socket "$daemon_socket" "$@" "$text" </dev/null) || return 1
	expected=$(LC_ALL=C wc -w <"$text")
	[ "${words%% *}" = "$expected" ] || {
		echo "wordcount says ${words%% *}, wc says $expected"
		return 1
	}
}

# letters N: that many in one word.
letters() { head -c "$1" /dev/zero | tr '\0' x; }

frames_free() {
	ctl drop-caches >/dev/null && ctl buddyinfo |
		awk '{ for (i = 5; i <= NF; i++) n += $i * 2 ^ (i - 5) } END { print n }'
}

idle() { [ "$(ctl --json sessions | grep -c '"pid"')" -eq 0 ]; }

everything_is_free() {
	local tries=0

	until idle; do
		[ $((tries += 1)) -lt 400 ] || return 1
		sleep 0.05 # the last process was seen to end a moment ago
	done
	[ "$(frames_free)" -eq "$1" ] && ctl fsck
}

daemon_start --pool-size 64M --backing 4k
at_start=$(frames_free)

: >"$text"
check "an empty file" agrees
printf 'one' >"$text"
check "one word without an end of line" agrees
printf ' \t\n\v\f\r ' >"$text"
check "white space of every kind alone" agrees
printf 'a\0b \0 \1\2 \303\244 x\200y \377\n' >"$text"
check "bytes that are no text" agrees
letters 4096 >"$text"
check "one word of one page" agrees
letters $((3 * block + 17)) >"$text"
check "one word over four blocks" agrees
{ letters $((block - 3)) && printf '  a  b' && letters $block && printf ' c'; } >"$text"
check "words that begin and end at the ends of blocks" agrees
{ letters $((block - 1)) && printf ' ' && letters 5; } >"$text"
check "a blank as the last byte of a block" agrees
{ letters $block && printf ' ' && letters 5; } >"$text"
check "a blank as the first byte of a block" agrees
{ head -c $((block - 4)) /dev/zero | tr '\0' ' ' && printf '\1\2\3\4' && head -c 8 /dev/zero && printf 'z z'; } >"$text"
check "a word whose printable part comes in the next block" agrees
head -c $((5 * 1024 * 1024 + 123)) /dev/urandom >"$text"
check "noise" agrees --workers 3
for ((i = 0; i < 40; i++)); do cat "${KMM_SRCDIR:-.}"/*.md "${KMM_SRCDIR:-.}"/mm/*.c; done >"$text"
check "a real text, 1 worker" agrees --workers 1
check "a real text, 4 workers" agrees --workers 4
check "a real text, 16 workers" agrees --workers 16
check "a real text, held until the end" agrees --workers 2 --hold
while [ "$(stat -c %s "$text")" -lt $((150 * 1024 * 1024)) ]; do
	cat "$text" "$text" >"$text.2" && mv "$text.2" "$text"
done
check "a text more than twice as large as the pool" agrees --workers 4
from_pipe() {
	local words

	words=$("$wordcount" --socket "$daemon_socket" < <(head -c 9999999 "$text")) &&
		[ "${words%% *}" = "$(head -c 9999999 "$text" | LC_ALL=C wc -w)" ]
}
check "a pipe" from_pipe

fails() { ! "$wordcount" "$@" </dev/null; }
check "no daemon is an error" fails --socket "$test_dir/nobody" "$text"
check "no file is an error" fails --socket "$daemon_socket" "$test_dir/nothing"
check "a worker count that is none" fails --workers 0 "$text"
check "everything is free again" everything_is_free "$at_start"
finish
