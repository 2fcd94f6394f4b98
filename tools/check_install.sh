#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs a build into an empty folder and uses it as a stranger would: the library through pkg-config, shared and
# static; what it exports; the plug-ins; man pages and completions.
#
#   tools/check_install.sh BUILD
set -eu
cd "$(dirname "$0")/.."
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "check_install: $*" >&2
    exit 1
}

DESTDIR=$work cmake --install "$build" >/dev/null
pc=$(find "$work" -name couplet.pc)
[ -n "$pc" ] || fail "no couplet.pc was installed"
libdir=$work$(sed -n 's/^libdir=//p' "$pc")
plugins=$work$(sed -n 's/^plugindir=//p' "$pc")
bin=$(find "$work" -type f -name couplet -path '*/bin/*')
share=$(dirname "$(dirname "$bin")")/share

# Exports: what couplet.h marks, all of it and nothing else.
sed -n 's/^CPL_API [^(]*[ *]\(cpl_[a-z_]*\)(.*/\1/p' include/couplet.h | sort >"$work/promised"
nm -D --defined-only "$libdir/libcouplet.so" | sed -n 's/.* T \([^@]*\).*/\1/p' | sort >"$work/exported"
[ -s "$work/promised" ] || fail "found nothing marked CPL_API in couplet.h"
diff "$work/promised" "$work/exported" || fail "libcouplet.so does not export what couplet.h promises"
readelf -d "$libdir/libcouplet.so" | grep -q 'SONAME.*libcouplet\.so\.[0-9]' || fail "libcouplet.so has no soname"
for p in "$plugins"/couplet-*.so; do
    [ -e "$p" ] || fail "no plug-in was installed"
    [ "$(nm -D --defined-only "$p" | sed 's/.* //')" = cpl_plugin ] || fail "$p exports more than cpl_plugin"
done

# A program of somebody else's.
cat >"$work/user.c" <<'END'
#include <couplet.h>
#include <stdio.h>
int main(void)
{
    cpl_error err;
    cpl_scorer *s;
    if (cpl_scorer_open(&s, "no/such/model", NULL, &err) != CPL_NOT_FOUND || s || !err.what[0]) return 1;
    puts(cpl_version());
    return 0;
}
END
version=$("$bin" --version | sed 's/^couplet //')
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work"
# shellcheck disable=SC2046 # pkg-config prints words
cc -std=c99 -Wall -Wextra -Werror "$work/user.c" -o "$work/shared" $(pkg-config --cflags --libs couplet)
[ "$(LD_LIBRARY_PATH=$libdir "$work/shared")" = "$version" ] || fail "the program with the shared library does not run"
unset PKG_CONFIG_SYSROOT_DIR
others=$(pkg-config --static --libs-only-l couplet | sed 's/-lcouplet//')
# shellcheck disable=SC2086
cc "$work/user.c" -I "$work$(sed -n 's/^includedir=//p' "$pc")" -o "$work/static" "$libdir/libcouplet.a" $others
[ "$("$work/static")" = "$version" ] || fail "the program with the static library does not run"

for name in couplet $("$bin" help --list | sed 's/ /-/g; s/^/couplet-/'); do
    head -n 3 "$share/man/man1/$name.1" | grep -q '^\.TH' || fail "man page $name.1 is missing or has no title"
done
! command -v bash >/dev/null 2>&1 || bash -n "$share/bash-completion/completions/couplet"
for f in zsh/site-functions/_couplet fish/vendor_completions.d/couplet.fish; do
    [ -s "$share/$f" ] || fail "completion $f is missing"
done
