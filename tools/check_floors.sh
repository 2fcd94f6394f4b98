#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails on an include that goes up the list of floors (docs/DESIGN.md), or that is not written from src/. Part of every
# build, so it needs nothing but sh and awk.
#
#   tools/check_floors.sh FLOOR...      lowest first, as CMakeLists.txt declares them
#   tools/check_floors.sh --self-test   that it still catches what it is for
set -eu
cd "$(dirname "$0")/.."

check() { # ROOT FLOOR...
    root=$1
    shift
    # shellcheck disable=SC2016 # an awk program
    find "$root/include" "$root/src" -name '*.[ch]' | LC_ALL=C sort | xargs awk -v floors="$*" -v root="$root/" '
        BEGIN { n = split(floors, list, " "); for (i = 1; i <= n; i++) rank[list[i]] = i }
        function complain(text) {
            printf "%s:%d: %s\n", substr(FILENAME, length(root) + 1), FNR, text
            bad = 1
        }
        FNR == 1 {
            path = substr(FILENAME, length(root) + 1)
            split(path, part, "/")
            own = part[1] == "include" ? 0 : rank[part[2]]
            if (part[1] == "src" && !own) complain("\"src/" part[2] "\" is no floor: add it to CMakeLists.txt")
        }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, quoted, "\"")
            header = quoted[2]
            if (header == "couplet.h" || header ~ /^proto\/[a-z0-9_]+\.pb-c\.h$/) next
            split(header, part, "/")
            if (header ~ /\.\./ || header !~ /\//) {
                complain("include \"" header "\": write it from src/, as \"floor/file.h\"")
            } else if (!(part[1] in rank)) {
                complain("include \"" header "\": \"" part[1] "\" is no floor")
            } else if (rank[part[1]] > own) {
                complain("upward include of \"" header "\": " (own ? list[own] : "include/") " lies below " part[1])
            } else if (header !~ /\.h$/) {
                complain("include \"" header "\": only headers are included")
            }
            # The tools that score go through the library, like any other program.
            if (path ~ /^src\/cli\/cmd_(score|embed|bench_engine)[a-z_]*\.[ch]$/ &&
                part[1] ~ /^(text|model|backend|engine)$/)
                complain("include \"" header "\": this command reaches the model through couplet.h only")
        }
        END { exit bad }'
}

if [ "${1-}" = --self-test ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/include" "$work/src/base" "$work/src/net" "$work/src/cli"
    : >"$work/include/couplet.h"
    expect() { # RESULT LINE FILE
        printf '%s\n' "$2" >"$work/src/$3"
        if check "$work" base engine net cli >/dev/null; then got=pass; else got=fail; fi
        rm "$work/src/$3"
        [ "$got" = "$1" ] || {
            echo "check_floors: self-test: '$2' in $3 should $1" >&2
            exit 1
        }
    }
    expect pass '#include "couplet.h"' base/a.c
    expect pass '#include "base/a.h"' net/a.c
    expect pass '#include "net/b.h"' net/a.c
    expect fail '#include "net/a.h"' base/a.c
    expect fail '  #  include "net/a.h"' base/a.h
    expect fail '#include "../net/a.h"' net/a.c
    expect fail '#include "a.h"' net/a.c
    expect fail '#include "net/a.c"' net/b.c
    expect fail '#include "nowhere/a.h"' net/a.c
    expect fail '#include "engine/engine.h"' cli/cmd_score.c
    expect pass '#include "engine/engine.h"' cli/cmd_doctor.c
    exit 0
fi
check . "$@"
