#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every function that libkmm exports has a manual page, or a link to one, with its name and prototype;
# every command of kmmctl is described; the options of kmmctl and kmmd are those of their pages; and all
# pages format without a warning.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

src=${KMM_SRCDIR:-.}
build=${KMM_BUILDDIR:-.}

formats() {
	local out

	out=$(groff -man -Tutf8 -ww -z "$1" 2>&1) || return 1
	[ -z "$out" ] || { echo "$out"; return 1; }
}

# page_of FUNCTION: the page to read, links followed.
page_of() {
	local page=$src/man/$1.3 target

	[ ! -f "$page" ] || { echo "$page"; return; }
	target=$(sed -n 's,^\.so man3/,,p' "$build/man/$1.3") && [ -n "$target" ] && echo "$src/man/$target"
}

is_documented() {
	local page

	page=$(page_of "$1") || { echo "no page for $1"; return 1; }
	# In the list of names, and with a prototype.
	sed -n '/^\.SH NAME/{n;p;}' "$page" | grep -Eq "(^|[ ,])$1([ ,]|\$)" || {
		echo "$page does not name it"
		return 1
	}
	sed -n '/^\.SH SYNOPSIS/,/^\.fi/p' "$page" | grep -q "$1(" || {
		echo "$page has no prototype of it"
		return 1
	}
}

has_entry() { grep -Eq "^\\.(TP|B|BI|BR|RB|IP).*(^|[ \"])$2([ \"\\]|\$)" <(sed 's/\\-/-/g' "$1"); }

# same_options PROGRAM PAGE: --help and the page's chapter of options name the same.
same_options() {
	diff <("$1" --help | grep -oE '^ +(-[a-z](, )?)?(--[a-z-]+)?' | tr -d ' ' | tr , '\n' | grep -e '^-' | sort -u) \
		<(sed 's/\\-/-/g' "$2" | sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' |
			grep -oE '^\.B[IR]* .*' | grep -oE '[ "]--?[a-z][a-z-]*' | tr -d ' "' | sort -u)
}

for page in "$src"/man/*.[1-8]; do
	check "${page##*/} formats" formats "$page"
done
# kmm_..._N is what the inline functions and macros of the headers need, nothing to call.
sed -n 's/^\t\(kmm_[a-z0-9_]*\);$/\1/p' "$src/client/libkmm.map" | grep -v '_[0-9]*$' >"$test_dir/functions"
while read -r f; do
	check "$f" is_documented "$f"
done <"$test_dir/functions"
for command in $("$KMMCTL" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
	[ "$command" = - ] || check "kmmctl $command" has_entry "$src/man/kmmctl.1" "$command"
done
check "kmmctl's options" same_options "$KMMCTL" "$src/man/kmmctl.1"
check "kmmd's options" same_options "$KMMD" "$src/man/kmmd.8"
finish
