#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ./run_server.sh --experiment FILE [any flag of `couplet serve`]: the server of an experiment, in the foreground.
cd "$(dirname "$0")" && exec "${COUPLET:-build/couplet}" serve "$@"
