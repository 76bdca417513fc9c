#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# stage.sh BUILDDIR DIR: what `make install` makes, in DIR, to be laid over a booted system. A prefix that
# is not of the system (make distcheck installs into its own directory, which a hardened unit may not see)
# becomes /usr/local.
set -euo pipefail

build=$1 dir=$2
make=${MAKE:-make}
value() { sed -n "s/^$1 = //p" "$build/Makefile" | head -n 1; }

rm -rf "$dir" "$dir.new"
"$make" -C "$build" install DESTDIR="$dir.new" >"$dir.log" 2>&1 || {
	cat "$dir.log" >&2
	exit 1
}
prefix=$(value prefix)
case $prefix in
/usr | /usr/local)
	mv "$dir.new" "$dir"
	;;
*)
	mkdir -p "$dir/usr"
	mv "$dir.new$prefix" "$dir/usr/local"
	grep -rlI --null -- "$prefix" "$dir/usr/local" | xargs -0 -r sed -i "s,$prefix,/usr/local,g"
	rm -rf "$dir.new"
	;;
esac
rm -f "$dir.log"
