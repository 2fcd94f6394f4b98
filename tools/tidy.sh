#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over every source of src/ with the settings of .clang-tidy.
#
#   tools/tidy.sh BUILD JOBS      BUILD: a configured build folder (compile_commands.json)
set -eu
cd "$(dirname "$0")/.."
# The generated protobuf headers must be there.
cmake --build "$1" --target cpl_wire >/dev/null
find src -name '*.c' | LC_ALL=C sort | xargs -P "$2" -n 4 clang-tidy -p "$1" --quiet
