#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# summary.sh BUILD: adds up the last run of make check. The last line says "N passed, N failed".
#
# A program counts as many tests as its log says: a line "N passed, N failed", or libcheck's
# "NN%: Checks: N, Failures: N, Errors: N"; else as one. A program that failed without a failed test
# (a crash, a time-out) counts as one more that failed.
set -u
build=${1:-.}
passed=0
failed=0

while IFS= read -r trs; do
	log=${trs%.trs}.log
	p=0
	f=0
	if line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1) && [ -n "$line" ]; then
		read -r p _ f _ <<<"$line"
	elif line=$(grep -E '^[0-9]+%: Checks: ' "$log"); then
		while read -r _ _ checks _ failures _ errors; do
			f=$((f + ${failures%,} + errors))
			p=$((p + ${checks%,} - ${failures%,} - errors))
		done <<<"$line"
	else
		p=1
	fi
	if ! grep -q '^:global-test-result: PASS' "$trs" && [ "$f" -eq 0 ]; then
		f=1
		[ "$p" -ne 1 ] || p=0
	fi
	passed=$((passed + p))
	failed=$((failed + f))
	[ "$f" -eq 0 ] || printf 'FAILED: %s (%d failed), see %s\n' "${trs%.trs}" "$f" "$log"
done < <(find "$build" -name '*.trs' | sort)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
