#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ./run_client.sh --experiment --config FILE [any flag of `couplet experiment run`]: drives the server that
# run_server.sh started (TARGET=HOST:PORT when it isn't 127.0.0.1:50051).
cd "$(dirname "$0")" || exit 1
[ "${1-}" = --experiment ] && shift
if [ "${1-}" != --config ] || [ $# -lt 2 ]; then
    echo "usage: run_client.sh --experiment --config FILE [--quick] [--output DIR]" >&2
    exit 2
fi
file=$2
shift 2
exec "${COUPLET:-build/couplet}" experiment run "$file" --target "${TARGET:-127.0.0.1:50051}" "$@"
