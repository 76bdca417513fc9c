#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kmmd-probes(7) and the programs have the same probes, with as many arguments, each with a line for
# bpftrace that names it and no argument that it does not have; and tracers can find every argument.
# A build without sys/sdt.h has none at all.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

page=${KMM_SRCDIR:-.}/man/kmmd-probes.7
library=$(find "${KMM_BUILDDIR:-.}/.libs" -name 'libkmm.so.*.*.*' | head -n 1)

# notes FILE: a line "PROVIDER NAME ARGUMENT..." a probe site.
notes() {
	readelf -n "$1" 2>/dev/null | awk '
		$1 == "Provider:" { provider = $2 }
		$1 == "Name:" { name = $2 }
		$1 == "Arguments:" && (provider == "kmmd" || provider == "kmm") {
			sub(/^ *Arguments: */, "")
			print provider, name, $0
		}'
}

# listed PROVIDER: a line "PROVIDER NAME COUNT" a probe of the page.
listed() {
	awk -v want="$1" '
		/^\.BR kmmd? \.$/ { provider = $2 }
		/^\.BI / && provider == want {
			n = split($0, part, "\"")
			count = n < 2 ? 0 : split(part[2], words, ",")
			print provider, $2, count
		}' "$page"
}

built() { notes "$1" | awk '{ print $1, $2, NF - 2 }' | sort -u; }

same() {
	diff <(listed "$1" | sort) <(built "$2") && return
	echo "left: $page; right: readelf -n $2"
	return 1
}

# Registers, constants, and memory that registers point to. (Not a thread's own variables.)
findable() {
	local bad

	[ -n "$(notes "$1")" ] || { echo "no probes at all"; return 1; }
	bad=$(notes "$1" | tr ' ' '\n' | grep '@' |
		grep -Ev '^-?[1248]@(\$-?[0-9]+|%[a-z0-9]+|-?[0-9]*\(%[a-z0-9]+(,%[a-z0-9]+(,[1248])?)?\))$')
	[ -z "$bad" ] || { echo "$bad"; return 1; }
}

# Each probe has its line, whose arguments exist.
lines_right() {
	awk '
		function fail(text) { print name ": " text; bad = 1 }
		/^\.BR kmmd? \.$/ { provider = $2 }
		/^\.BI / {
			if (name != "" && !said) fail("no bpftrace line")
			name = $2; said = 0
			split($0, part, "\""); count = split(part[2], words, ",")
		}
		/^usdt:/ && name != "" {
			split($1, where, ":")
			if (where[3] != provider || where[4] != name) {
				if (!(name ~ /_end$/ && where[4] ~ /_begin$/))
					fail("its line is for " where[3] ":" where[4])
				next
			}
			rest = $0
			while (match(rest, /arg[0-9]+/)) {
				if (substr(rest, RSTART + 3, RLENGTH - 3) + 0 >= count)
					fail("has no " substr(rest, RSTART, RLENGTH))
				rest = substr(rest, RSTART + RLENGTH)
			}
			said = 1
		}
		/^\.SH EXAMPLE/ { exit }
		END { if (!said) fail("no bpftrace line"); exit bad }' "$page"
}

none() { [ -z "$(notes "$1")" ]; }

check "each probe has a line for bpftrace" lines_right
if grep -q '^#define ENABLE_PROBES 1' "${KMM_BUILDDIR:-.}/config.h"; then
	check "the daemon's probes are those of kmmd-probes(7)" same kmmd "$KMMD"
	check "the library's probes are those of kmmd-probes(7)" same kmm "$library"
	check "the daemon's arguments can be found" findable "$KMMD"
	check "the library's arguments can be found" findable "$library"
else
	check "the daemon has no probes" none "$KMMD"
	check "the library has no probes" none "$library"
fi
finish
