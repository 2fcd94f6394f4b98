#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes man pages and shell completions from the program's own command tables, where `make install` takes them.
#
#   tools/make_help.sh PROGRAM FOLDER
set -eu
program=$1 out=$2
rm -rf "$out"
mkdir -p "$out/man/man1" "$out/bash-completion/completions" "$out/zsh/site-functions" "$out/fish/vendor_completions.d"
"$program" help --man >"$out/man/man1/couplet.1"
"$program" help --list | while read -r name; do
    # shellcheck disable=SC2086 # "bench engine" is two words
    "$program" help $name --man >"$out/man/man1/couplet-$(printf '%s' "$name" | tr ' ' '-').1"
done
"$program" help --completion bash >"$out/bash-completion/completions/couplet"
"$program" help --completion zsh >"$out/zsh/site-functions/_couplet"
"$program" help --completion fish >"$out/fish/vendor_completions.d/couplet.fish"
