#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Does every C source of the core compile for macOS on Apple Silicon? Compiled with the pinned zig (which carries macOS's
# headers) for aarch64-macos, warnings as errors, nothing linked: what only Linux has must be in files that have a macOS
# side too. Libraries' headers are the system's own, linked one by one into a folder, so that glibc's are not seen. Skipped
# (77) without zig; tools/setup.sh check installs it.
#
#   tools/check_macos.sh BUILD [JOBS]     BUILD: a configured and built folder, for the generated headers
set -eu
cd "$(dirname "$0")/.."
build=$1
jobs=${2:-2}

# ZIG names another one than .venv's.
[ -n "${ZIG-}" ] || ZIG=$(.venv/bin/python -c 'import os, ziglang
print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))' 2>/dev/null) || {
    echo "skipped: no ziglang in .venv (tools/setup.sh check installs it)"
    exit 77
}

work=$build/macos
mkdir -p "$work/include"
for h in uv.h uv nghttp2 jansson.h jansson_config.h protobuf-c libfyaml.h libfyaml zlib.h zconf.h zstd.h zstd_errors.h; do
    for dir in /usr/include "/usr/include/$(uname -m)-linux-gnu" /usr/local/include; do
        if [ -e "$dir/$h" ]; then ln -sfn "$dir/$h" "$work/include/$h"; fi
    done
done
for dir in /usr/share/include/llhttp /usr/include; do
    if [ -e "$dir/llhttp.h" ]; then ln -sfn "$dir/llhttp.h" "$work/include/llhttp.h"; fi
done

export ZIG_GLOBAL_CACHE_DIR="$work/cache" ZIG_LOCAL_CACHE_DIR="$work/cache"

# One file: the flags of an instruction set by its name, as cmake/floors.cmake has them.
cat >"$work/one.sh" <<'ONE'
set -eu
file=$1
isa=''
case $file in
*_dotprod.c) isa='-mcpu=generic+v8_2a+dotprod' ;;
*_i8mm.c) isa='-mcpu=generic+v8_2a+dotprod+i8mm' ;;
*_bfmmla.c) isa='-mcpu=generic+v8_2a+bf16' ;;
esac
# shellcheck disable=SC2086 # no flag or one
"$ZIG" cc -target aarch64-macos -std=gnu17 -O0 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
    -Wno-unknown-warning-option -Werror -fvisibility=hidden -D_GNU_SOURCE -D_DARWIN_C_SOURCE $isa \
    -DCOUPLET_VERSION='"check"' -DCOUPLET_BUILD_FLAGS='"check"' -DCOUPLET_PLUGIN_DIR='"/usr/local/lib/couplet"' \
    -Iinclude -Isrc -I"$BUILD/proto" -isystem "$WORK/include" -c "$file" -o "$WORK/$(echo "$file" | tr / _).o" || {
    echo "check_macos: $file does not compile for macOS"
    exit 1
}
ONE
export ZIG BUILD="$build" WORK="$work"
find src -name '*.c' | grep -Ev '_(avx2|avxvnni|avx512|vnni|bf16|amx)\.c$' | LC_ALL=C sort |
    xargs -P "$jobs" -n 1 sh "$work/one.sh"
