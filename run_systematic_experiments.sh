#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same as run_systematic_experiments.py.
exec python3 "$(dirname "$0")/run_systematic_experiments.py" "$@"
