#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shell linter over the scripts, where it is installed; else at least that every one of them parses.
set -eu
cd "$(dirname "$0")/.."

scripts=$(git ls-files 2>/dev/null | grep -E '\.sh$|^\.ci/run$' || find . -maxdepth 3 -name '*.sh' -not -path './build*')
for s in $scripts; do
    [ -e "$s" ] || continue
    if head -n 1 "$s" | grep -q bash; then bash -n "$s"; else sh -n "$s"; fi
    head -n 2 "$s" | grep -q 'SPDX-License-Identifier: Apache-2.0' || {
        echo "$s: line 2 should be '# SPDX-License-Identifier: Apache-2.0'"
        exit 1
    }
done
if command -v shellcheck >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # a list of words
    shellcheck -x $scripts
else
    echo "shellcheck is not installed: the scripts were only parsed"
fi
