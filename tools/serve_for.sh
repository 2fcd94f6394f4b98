# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For scripts that need a running server (`. tools/serve_for.sh`): start_server MODEL [FLAG]... puts its HOST:PORT into
# $server and its process into $server_pid once it is ready to score; stop_server ends it and waits. It is also stopped
# when the script ends. $couplet names the program; $work is a folder that vanishes with the script.
couplet=${COUPLET_PROGRAM:-build/couplet}
work=$(mktemp -d)
server='' server_pid=''

stop_server() {
    [ -n "$server_pid" ] || return 0
    kill -TERM "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
    server='' server_pid=''
}

trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

start_server() {
    model=$1
    shift
    : >"$work/server.out"
    "$couplet" serve --model "$model" --listen 127.0.0.1:0 "$@" >"$work/server.out" 2>"$work/server.log" &
    server_pid=$!
    while :; do
        server=$(sed -n 's/^listening on \([^ ]*\).*/\1/p' "$work/server.out")
        [ -z "$server" ] || return 0
        if ! kill -0 "$server_pid" 2>/dev/null; then
            server_pid=''
            echo "the server did not start:" >&2
            cat "$work/server.log" >&2
            exit 1
        fi
        sleep 0.02
    done
}
