#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kinds of events, their names and ids are the same in the daemon, in kmmd(8) and in the journal's
# catalog, which systemd accepts.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

src=${KMM_SRCDIR:-.}
catalog=$src/contrib/systemd/kmmd.catalog

# A line "NAME ID" a kind, sorted.
in_daemon() { sed -n 's/^\t\[LOG_[A-Z]*\] = { "\([a-z]*\)", "\([0-9a-f]*\)", LOG_.*/\1 \2/p' "$src/daemon/log_kind.c" | sort; }
in_page() { sed -n 's/^\.BR \([a-z]*\) " (" \([0-9a-f]\{32\}\) )$/\1 \2/p' "$src/man/kmmd.8" | sort; }
in_catalog() { sed -n 's/^-- \([0-9a-f]*\)$/\1/p' "$catalog" | sort; }
# In log.h, without the one that is no event.
enumerated() { sed -n 's/^\tLOG_\([A-Z]*\),.*/\1/p' "$src/daemon/log.h" | grep -v '^PLAIN$' | sort; }

ids_right() {
	[ "$(in_daemon | wc -l)" -gt 10 ] || { echo "only $(in_daemon | wc -l) kinds are found"; return 1; }
	[ -z "$(in_daemon | cut -d' ' -f2 | grep -Ev '^[0-9a-f]{32}$')" ] || return 1
	[ -z "$(in_daemon | cut -d' ' -f2 | sort | uniq -d)" ]
}
each_has_a_row() {
	diff <(enumerated) <(sed -n 's/^\t\[LOG_\([A-Z]*\)\] = .*/\1/p' "$src/daemon/log_kind.c" | grep -v '^PLAIN$' | sort)
}
page_agrees() { diff <(in_daemon) <(in_page); }
catalog_agrees() { diff <(in_daemon | cut -d' ' -f2 | sort) <(in_catalog); }

# systemd compiles it, and finds each kind's subject.
catalog_compiles() {
	local root=$test_dir/root subjects

	mkdir -p "$root/usr/lib/systemd/catalog" "$root/var/lib/systemd/catalog"
	cp "$catalog" "$root/usr/lib/systemd/catalog/"
	journalctl --update-catalog --root="$root" || return 1
	subjects=$(journalctl --list-catalog --root="$root" | grep -c ' kmmd: ')
	[ "$subjects" -eq "$(in_daemon | wc -l)" ] || { echo "$subjects subjects"; return 1; }
}

check "ids are 128 bits each, and differ" ids_right
check "each kind has a row" each_has_a_row
check "kmmd(8) has all" page_agrees
check "the catalog has all" catalog_agrees
check "the catalog compiles" catalog_compiles
finish
