#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The floors are static libraries, so two functions of one name in different floors would link without a word, and one
# of them would be called for both. This fails on any global symbol that is defined twice, and on any without our prefix.
#
#   tools/check_symbols.sh LIBRARY.a...
set -eu
nm -A --defined-only -g "$@" 2>/dev/null | awk '
    NF >= 3 && $(NF - 1) ~ /^[TDBRVWC]$/ {
        if ($NF ~ /^__/) next # the sanitizers make these
        name = $NF; split($1, at, ":"); where = at[2]; library = at[1]; sub(/.*\//, "", library)
        place = library "(" where ")"
        if (name in seen) {
            print name ": defined in " seen[name] " and in " place
            bad = 1
        }
        seen[name] = place
        # protobuf-c names what it makes after the package.
        if (name !~ /^cpl_/ && where !~ /\.pb-c\.c\.o$/) {
            print name ": a global symbol without the prefix cpl_, in " place
            bad = 1
        }
    }
    END { exit bad }'
