#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# doc/checklist.md cannot go stale: it has the rows that it is to have, in order, each with a test, and
# every test that it names exists and is run by make check.
#
#     | 7 | names | what it is | `integration/test_api_pages`: `every_order`; `model/mm_model` |
#
# A program is run when a list of tests.am has it, a case when its suite adds it; a case of a script is
# a function of it.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

src=${KMM_SRCDIR:-.}
list=$src/doc/checklist.md

sed -n '/^rows$/,/^end of rows/{//d;p;}' "$list" >"$test_dir/wanted"
# The table's first columns, as they are wanted.
sed -n 's/^| \([0-9][0-9]*\) | \(.*\)$/\1 | \2/p' "$list" >"$test_dir/table"
sed 's/ | /\t/g; s/ |$//; s/\\|/|/g' "$test_dir/table" | cut -f 1,2 | tr '\t' ' ' >"$test_dir/rows"
cat "$src"/tests/tests.am "$src"/tests/*/*.am >"$test_dir/am"

rows_are_complete() {
	[ "$(wc -l <"$test_dir/wanted")" -ge 49 ] && diff "$test_dir/wanted" "$test_dir/rows"
}

# is_run PROGRAM: a list has it.
is_run() { grep -Eq "^	$1( \\\\)?\$" "$test_dir/am"; }

# sources_of PROGRAM: its source files.
sources_of() {
	local variable

	case $1 in
	tests/kernel/*)
		echo "$src/$1.c"
		;;
	*)
		variable=$(tr '/.-' '___' <<<"$1")_SOURCES
		sed -n "/^$variable = /,/[^\\\\]\$/p" "$test_dir/am" | tr -d '\\' |
			tr -s '[:space:]' '\n' | sed -n "s,^\(tests/.*\.c\)\$,$src/\1,p"
		;;
	esac
}

# has_case PROGRAM CASE
has_case() {
	local file sources

	for file in "$src/$1.py" "$src/$1.sh"; do
		[ ! -f "$file" ] || { grep -Eq "^ *def $2\\(|^$2\\(\\)" "$file"; return; }
	done
	mapfile -t sources < <(sources_of "$1")
	[ ${#sources[@]} -gt 0 ] &&
		grep -Eq "^START_TEST\\($2\\)" "${sources[@]}" &&
		grep -Eq "tcase_add_[a-z_]*test[a-z_]*\\([a-z_]*, $2[,)]" "${sources[@]}"
}

program_is_run() {
	case $1 in
	kernel/*) is_run "tests/$1.c" && grep -q '^KERNEL_TESTS = .*kernel_c .*kernel_cxx$' "$test_dir/am" ;;
	*)
		if [ -f "$src/tests/$1.py" ]; then
			is_run "tests/$1.py"
		elif [ -f "$src/tests/$1.sh" ]; then
			is_run "tests/$1.sh"
		else
			is_run "tests/$1" && [ -n "$(sources_of "tests/$1")" ]
		fi
		;;
	esac
}

# row_holds TESTS: `program`: `case`, `case`; `program`
row_holds() {
	local programs program cases c

	[ -n "$1" ] || { echo "no test"; return 1; }
	IFS=';' read -ra programs <<<"$1"
	for program in "${programs[@]}"; do
		cases=${program#*:}
		[ "$cases" != "$program" ] || cases=
		program=$(tr -d '` ' <<<"${program%%:*}")
		program_is_run "$program" || { echo "$program is not run"; return 1; }
		for c in $(tr -d '`,' <<<"$cases"); do
			has_case "tests/$program" "$c" || { echo "$program has no $c"; return 1; }
		done
	done
}

check "all rows, in order" rows_are_complete
while IFS= read -r line; do
	tests=${line% |}
	check "row ${line%% |*}" row_holds "${tests##* | }"
done <"$test_dir/table"
finish
