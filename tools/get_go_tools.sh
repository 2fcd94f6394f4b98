#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# grpcurl and ghz at pinned versions into .venv/bin, where there is a Go that builds them; elsewhere it says so and the
# end-to-end tests that use them are reported as skipped. Does nothing the second time.
set -eu
cd "$(dirname "$0")/.."
grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
ghz=github.com/bojand/ghz/cmd/ghz@v0.120.0

stamp=.venv/go-tools
[ "$(cat "$stamp" 2>/dev/null)" != "$grpcurl $ghz" ] || exit 0
if ! command -v go >/dev/null 2>&1; then
    echo "get_go_tools: no Go here: tests with grpcurl and ghz will be skipped" >&2
    exit 0
fi
mkdir -p .venv/bin
echo "get_go_tools: building grpcurl and ghz (once, a minute or two)" >&2
log=$(mktemp)
if GOTOOLCHAIN=local GOBIN=$PWD/.venv/bin GOFLAGS=-buildvcs=false go install "$grpcurl" >"$log" 2>&1 &&
    GOTOOLCHAIN=local GOBIN=$PWD/.venv/bin GOFLAGS=-buildvcs=false go install "$ghz" >>"$log" 2>&1; then
    printf '%s %s\n' "$grpcurl" "$ghz" >"$stamp"
else
    echo "get_go_tools: this Go can't build them: tests with grpcurl and ghz will be skipped" >&2
    tail -n 3 "$log" >&2
fi
rm -f "$log"
