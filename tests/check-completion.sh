#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bash completes what --help of kmmctl and kmmd says, all of it and nothing else, and what the daemon knows.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

src=${KMM_SRCDIR:-.}
set +u # bash-completion is not written for it
for file in /usr/share/bash-completion/bash_completion "$src/contrib/completion/kmmctl" \
	"$src/contrib/completion/kmmd"; do
	# shellcheck disable=SC1090
	. "$file" || {
		echo "$file cannot be read; bash_completion is of the package bash-completion" >&2
		exit 1
	}
done

# offers WORD...: what <TAB> behind the last WORD has to offer, one a line.
offers() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	COMP_LINE="$*"
	COMP_POINT=${#COMP_LINE}
	COMPREPLY=()
	case ${1##*/} in
	kmmd) _kmmd ;;
	*) _kmmctl ;;
	esac
	printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort
}

same() {
	[ "$1" = "$2" ] || {
		diff <(echo "$1") <(echo "$2")
		return 1
	}
}

help_of() { "$1" --help; }
# Long options, and short ones that have no long name, with all that stands behind them on the line.
options_of() { help_of "$1" | sed -nE 's/^ +((-[a-z], )?--[a-z-]+|-[a-z])(.*)/\1\3/p' | sed -E 's/^-[a-z], //'; }
names() { awk '{ print $1 }' | LC_ALL=C sort -u; }
commands=$(help_of "$KMMCTL" | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p' | LC_ALL=C sort)

check "kmmctl's commands" same "$(offers "$KMMCTL" '')" "$commands"
general=$(options_of "$KMMCTL" | grep -Ev ' [a-z]+(, [a-z]+)*: ' | names)
check "kmmctl's options" same "$(offers "$KMMCTL" -)" "$general"
for command in $commands; do
	own=$(options_of "$KMMCTL" | grep -E "[ ,]$command(, [a-z]+)*: " | names)
	check "kmmctl $command: its options" same "$(offers "$KMMCTL" "$command" -)" \
		"$(printf '%s\n' $general $own | LC_ALL=C sort)"
done
check "kmmd's options" same "$(offers "$KMMD" -)" "$(options_of "$KMMD" | sed 's/[= ].*//' | names)"

# Behind an option that takes a value no command is offered; but the values that --help names.
takes_a_value() {
	local offered word

	offered=$(offers "$1" "$2" '')
	for word in $commands --help; do
		! grep -Fqx -- "$word" <<<"$offered" || { echo "$2 is followed by $word"; return 1; }
	done
}
for program in "$KMMCTL" "$KMMD"; do
	while read -r option; do
		check "${program##*/} $option takes a value" takes_a_value "$program" "$option"
	done < <(options_of "$program" | sed -nE 's/^(-[a-z-]+)[ =][A-Z].*/\1/p')
done
value_of() { offers "$KMMCTL" "$1" "$2" '' | xargs; }
check "map --by" same "$(value_of map --by)" "fullness owner type zone"
check "map --color" same "$(value_of map --color)" "always auto never"
sort_keys=$(help_of "$KMMCTL" | sed -n '/--sort KEY/,/^ *-b/p' | sed '$d; s/.*top: //' | tr -d , |
	tr -s ' \n' '\n' | grep -v '^or$' | LC_ALL=C sort | xargs)
check "top --sort" same "$(value_of top --sort)" "$sort_keys"
check "kmmd --backing" same "$(offers "$KMMD" --backing '' | xargs)" "4k auto hugetlb thp"

# What the daemon is asked for.
set -u
daemon_start --pool-size 64M --backing 4k
set +u
check "session ids" same "$(offers "$KMMCTL" --socket "$daemon_socket" session '')" \
	"$(ctl sessions | awk 'NR > 1 { print $1 }' | LC_ALL=C sort)"
check "caches" same "$(offers "$KMMCTL" --socket "$daemon_socket" shrink kmalloc-cg-1 | xargs)" \
	"$(ctl slabinfo | awk '$1 ~ /^kmalloc-cg-1/ { print $1 }' | LC_ALL=C sort | xargs)"
check "methods" same "$(offers "$KMMCTL" --socket "$daemon_socket" methods '')" \
	"$(ctl methods | awk 'NR > 1 { print $2 }' | LC_ALL=C sort)"
check "settings that can be set" same "$(offers "$KMMCTL" --socket "$daemon_socket" set limits. | xargs)" \
	"$(ctl settings | awk '$1 ~ /^limits\./ && $NF == "live" { print $1 }' | LC_ALL=C sort | xargs)"
check "one argument at most" same "$(offers "$KMMCTL" --socket "$daemon_socket" shrink kmalloc-8 '')" ""
daemon_stop
check "no daemon, no proposals" same "$(offers "$KMMCTL" --socket "$daemon_socket" session '')" ""
finish
