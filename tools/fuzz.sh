#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target of a build for a while, starting from the committed corpora; what it finds on the way stays
# in BUILD/corpus. A crash leaves its input in BUILD and ends this with an error.
#
#   tools/fuzz.sh BUILD SECONDS
set -eu
cd "$(dirname "$0")/.."
build=$1 seconds=$2
for target in "$build"/fuzz_*; do
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    mkdir -p "$build/corpus/$name"
    dictionary=''
    [ ! -r "tests/fuzz/$name.dict" ] || dictionary="-dict=tests/fuzz/$name.dict"
    echo "fuzz: $name for $seconds s"
    # shellcheck disable=SC2086 # absent or one word
    "$target" $dictionary -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$build/$name-" -seed=1 \
        -rss_limit_mb=4096 "$build/corpus/$name" "tests/fuzz/corpus/$name" 2>"$build/$name.log" || {
        tail -n 40 "$build/$name.log"
        exit 1
    }
    grep -E 'stat::(number_of_executed_units|new_units_added)' "$build/$name.log"
done
