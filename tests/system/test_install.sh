#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make install, install-strip and uninstall by GNU's rules: DESTDIR and every directory are respected, what
# is installed can be built with and run, what is exported has a version, and uninstall leaves nothing.
# shellcheck disable=SC2317
# shellcheck source=tests/functions.sh
. "${KMM_SRCDIR:-.}/tests/functions.sh"

build=$(cd "${KMM_BUILDDIR:-.}" && pwd)
src=$(cd "${KMM_SRCDIR:-.}" && pwd)
stage=$test_dir/stage
unset MAKEFLAGS MAKELEVEL MFLAGS

# run_make TARGET VARIABLE=VALUE...: quiet unless it fails.
run_make() { make -C "$build" --no-print-directory "$@" >"$test_dir/make" 2>&1 || { cat "$test_dir/make"; false; }; }
# configured VARIABLE: a directory, as configure set it.
configured() {
	printf 'include Makefile\nprint-it: ; @echo $(%s)\n' "$1" |
		make -C "$build" --no-print-directory -f - print-it | tail -n 1 # before it make may remake itself
}
same() {
	[ "$1" = "$2" ] || {
		diff <(echo "$1") <(echo "$2")
		return 1
	}
}
files() { (cd "$1" && find . ! -type d | LC_ALL=C sort); }
libdir=$(configured libdir)
installed=$stage$libdir

# ---- into one tree, as packages do it ----

check "make install DESTDIR=" run_make install DESTDIR="$stage"
everything=$(files "$stage")
is_there() { [ -e "$1" ] || { echo "no $1"; false; }; }
for variable in bindir/kmmctl sbindir/kmmd libdir/libkmm.so libdir/libkmm.so.1 libdir/pkgconfig/kmm.pc \
	includedir/kmm/kmm.h includedir/kmm/kernel.h mandir/man8/kmmd.8 mandir/man1/kmmctl.1 \
	mandir/man5/kmmd.conf.5 mandir/man3/kmm_adopt.3 sysconfdir/kmmd/kmmd.conf docdir/operator.md \
	docdir/examples/pipeline.c systemdsystemunitdir/kmmd.service systemdsystemunitdir/kmmd.socket \
	sysusersdir/kmmd.conf bashcompletiondir/kmmctl bashcompletiondir/kmmd; do
	check "$variable" is_there "$stage$(configured "${variable%%/*}")/${variable#*/}"
done
check "the unit starts what was installed" grep -qF "ExecStart=$(configured sbindir)/kmmd --config $(
	configured sysconfdir)/kmmd/kmmd.conf" "$stage$(configured systemdsystemunitdir)/kmmd.service"
check "the installed configuration is right" "$stage$(configured sbindir)/kmmd" \
	--config "$stage$(configured sysconfdir)/kmmd/kmmd.conf" --socket "$daemon_socket" --check-config

# ---- built with ----

build_example() {
	cd "$test_dir" || return
	cp "$src"/contrib/examples/{pipeline.c,ring.c,ring.h} . || return
	# a library with a sanitizer wants programs with it: AM_LDFLAGS has nothing else
	# shellcheck disable=SC2046
	${CC:-cc} -Wall -o pipeline pipeline.c ring.c $(configured AM_LDFLAGS) $(pkg-config --cflags --libs kmm)
}
run_example() {
	seq 1 1000 | sed 's/$/,x/' >"$test_dir/csv"
	LD_LIBRARY_PATH=$installed "$test_dir/pipeline" run --socket "$daemon_socket" --columns 2,1 \
		"$test_dir/csv" >"$test_dir/out" && [ "$(wc -l <"$test_dir/out")" -eq 1000 ]
}
export PKG_CONFIG_PATH=$installed/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
version=$(sed -n 's/^AC_INIT(\[kmmd\], \[\(.*\)\])$/\1/p' "$src/configure.ac")
check "pkg-config knows the version" same "$(pkg-config --modversion kmm)" "$version"
check "an example is built outside of the tree" build_example
KMMD=$stage$(configured sbindir)/kmmd KMMCTL=$stage$(configured bindir)/kmmctl
daemon_start --pool-size 64M --backing 4k
check "and runs" run_example
daemon_stop

# ---- symbols ----

defined() { nm -D --defined-only "$installed/libkmm.so.1" | awk '{ print $3 }' | LC_ALL=C sort; }
check "what the map has is exported, with its version, and nothing else" same "$(defined)" \
	"$({ echo KMM_1.0; sed -n 's/^\t\(kmm_[a-z0-9_]*\);$/\1@@KMM_1.0/p' "$src/client/libkmm.map"; } | LC_ALL=C sort)"
soname() { objdump -p "$installed/libkmm.so" | awk '$1 == "SONAME" { print $2 }'; }
check "the library's name has the version of its interface" same "$(soname)" libkmm.so.1

# ---- away again ----

nothing_left() { [ -z "$(files "$1")" ] || { files "$1"; false; }; }
own_directories() { find "$1" -type d -name '*kmm*'; }
check "make uninstall" run_make uninstall DESTDIR="$stage"
check "it leaves no file" nothing_left "$stage"
check "and no directory of ours" same "$(own_directories "$stage")" ""

# A configuration that was changed is the administrator's.
changed=$stage$(configured sysconfdir)/kmmd/kmmd.conf
keeps() { echo '# mine' >>"$changed" && run_make install DESTDIR="$stage" && tail -n 1 "$changed" | grep -qx '# mine'; }
mkdir -p "${changed%/*}" && : >"$changed"
check "a changed configuration is not replaced" keeps
check "make uninstall with it" run_make uninstall DESTDIR="$stage"
check "nor taken away" same "$(files "$stage")" ".${changed#"$stage"}"
rm -rf "$stage"

# ---- stripped, into other directories ----

# The library's own stays as configured: libtool wrote it into libkmm.la.
check "make install-strip with every directory elsewhere" run_make install-strip DESTDIR="$stage" \
	bindir=/a/bin sbindir=/a/sbin includedir=/a/include sysconfdir=/a/etc datarootdir=/a/share \
	mandir=/a/man docdir=/a/doc systemdsystemunitdir=/a/units prefix=/a/prefix libdir="$libdir"
elsewhere() { files "$stage" | grep -v -e '^\./a/' -e "^\.$libdir/"; }
check "nothing lies anywhere else" same "$(elsewhere)" ""
check "as many files" same "$(files "$stage" | wc -l)" "$(wc -l <<<"$everything")"
has_no_symbols() { nm "$1" 2>&1 | grep -q 'no symbols'; }
for file in a/bin/kmmctl a/sbin/kmmd "${libdir#/}/libkmm.so.1"; do
	check "${file##*/} is stripped" has_no_symbols "$stage/$file"
done
finish
