#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what a target of the Makefile needs and this machine lacks. Asks nothing, says what it does, and does
# nothing when nothing is missing, which takes a few milliseconds to find out.
#
#   tools/setup.sh [build|demo|check|tidy|fuzz|cuda]...      default: build
#   tools/setup.sh onnx|openvino|pytorch|pytorch-cuda|mlx... the runtime of a plug-in, into .venv
#   tools/setup.sh compiled-export                           what tools/export_compiled.py needs, into .export-venv
#   tools/setup.sh openvino-export                           what tools/export_openvino.py needs, into .openvino-venv
#
# Debian 12 and later: apt (as root, or through sudo). Any other system: names what is missing and stops.
# Python packages go into .venv in this folder, never into the system; pip's own configuration is honoured.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Debian packages by set, and for other systems what stands for them: a program in PATH or a pkg-config module.
packages='' programs='' modules='' requirements='' venv=no cuda=no runtimes=''
want() {
    case $1 in
    build)
        packages="$packages gcc libc6-dev cmake ninja-build pkg-config protobuf-c-compiler libnghttp2-dev libuv1-dev
            libprotobuf-c-dev libjansson-dev libfyaml-dev zlib1g-dev libzstd-dev node-llhttp"
        programs="$programs cc cmake ninja pkg-config protoc-c"
        modules="$modules libnghttp2 libuv libprotobuf-c jansson libfyaml zlib libzstd"
        ;;
    demo) # pip carries the model
        want build
        packages="$packages python3 python3-venv" programs="$programs python3" venv=yes
        ;;
    check)
        want demo
        packages="$packages libcmocka-dev" modules="$modules cmocka"
        if [ "$(uname -m)" = x86_64 ]; then # 64-bit ARM's kernels are built and run here too
            packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
            programs="$programs aarch64-linux-gnu-gcc qemu-aarch64"
        fi
        requirements="tools/requirements-check.txt tests/e2e/requirements.txt"
        ;;
    tidy)
        want build
        packages="$packages clang-tidy libcmocka-dev python3" programs="$programs clang-tidy python3"
        modules="$modules cmocka"
        ;;
    fuzz)
        want build
        packages="$packages clang" programs="$programs clang"
        ;;
    cuda) # nvcc as pip has it, where the machine has none; needs no GPU
        want build
        packages="$packages g++ libcmocka-dev python3 python3-venv" programs="$programs g++ python3"
        modules="$modules cmocka" cuda=yes
        ;;
    onnx | openvino) # the plug-in is built without; this is what it opens when used
        want build
        packages="$packages python3 python3-venv" programs="$programs python3" runtimes="$runtimes $1"
        ;;
    pytorch | pytorch-cuda | mlx) # C++: the plug-in is built against what is installed here
        want build
        packages="$packages g++ python3 python3-venv" programs="$programs g++ python3" runtimes="$runtimes $1"
        ;;
    compiled-export) # backend compiled runs on what `pytorch` installs; making its packages takes all of torch
        packages="$packages g++ python3 python3-dev python3-venv" programs="$programs g++ python3" runtimes="$runtimes $1"
        ;;
    openvino-export) # NNCF brings much along: an environment of its own
        packages="$packages python3 python3-venv" programs="$programs python3" runtimes="$runtimes $1"
        ;;
    *) die "unknown set '$1': build, demo, check, tidy, fuzz, cuda, onnx, openvino, pytorch, pytorch-cuda, compiled-export, mlx or openvino-export" ;;
    esac
}

# One dpkg-query for all: prints those of $packages that are not fully installed.
missing_packages() {
    # shellcheck disable=SC2086 # a list of words
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p')
    for p in $packages; do
        printf '%s\n' "$installed" | grep -qxF "$p" || printf '%s ' "$p"
    done
}

missing_elsewhere() {
    for p in $programs; do
        command -v "$p" >/dev/null 2>&1 || printf '%s ' "$p"
    done
    for m in $modules; do
        pkg-config --exists "$m" 2>/dev/null || printf '%s(pkg-config) ' "$m"
    done
}

is_debian_12() {
    [ -r /etc/os-release ] || return 1
    id=$(sed -n 's/^ID=//p' /etc/os-release | tr -d '"')
    version=$(sed -n 's/^VERSION_ID=//p' /etc/os-release | tr -d '"')
    # No VERSION_ID: Debian testing or unstable.
    [ "$id" = debian ] && [ "${version:-99}" -ge 12 ] 2>/dev/null
}

install_packages() {
    as_root=''
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "needs root to run: apt-get install $1"
        as_root='sudo'
    fi
    log=$(mktemp)
    say "installing with apt: $1"
    # shellcheck disable=SC2086 # lists of words
    if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $1; } \
        </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt could not install: $1; what the build would miss: $(missing_elsewhere)"
    fi
    rm -f "$log"
}

# The stamp holds what was installed, so a changed requirement is noticed and an unchanged one costs one comparison.
make_venv() {
    stamp=.venv/installed
    [ -x .venv/bin/pip ] || {
        say "making .venv"
        python3 -m venv .venv
    }
    files=''
    for r in $requirements; do
        [ ! -r "$r" ] || files="$files $r"
    done
    [ -n "$files" ] || return 0
    # shellcheck disable=SC2086
    if [ -r "$stamp" ] && cat $files | cmp -s - "$stamp"; then return 0; fi
    options=''
    for f in $files; do options="$options -r $f"; done
    say "installing into .venv:$files"
    # shellcheck disable=SC2086
    .venv/bin/pip install --quiet --no-input $options || die "pip could not install$files"
    # shellcheck disable=SC2086
    cat $files >"$stamp"
}

make_cuda() {
    command -v nvcc >/dev/null 2>&1 || [ -x /usr/local/cuda/bin/nvcc ] && return 0
    stamp=.cuda-venv/installed
    if [ -r "$stamp" ] && cmp -s tools/requirements-cuda.txt "$stamp"; then return 0; fi
    say "installing nvcc into .cuda-venv"
    python3 -m venv .cuda-venv
    .cuda-venv/bin/pip install --quiet --no-input -r tools/requirements-cuda.txt || die "pip could not install nvcc"
    cp tools/requirements-cuda.txt "$stamp"
}

# make_runtime VENV NAME [pip option...]: tools/requirements-NAME.txt into VENV, with a stamp of its own.
make_runtime() {
    into=$1 file=tools/requirements-$2.txt stamp=$1/installed-$2
    if [ -r "$stamp" ] && cmp -s "$file" "$stamp"; then return 0; fi
    [ -x "$into/bin/pip" ] || {
        say "making $into"
        python3 -m venv "$into"
    }
    say "installing into $into: $file"
    shift 2
    "$into/bin/pip" install --quiet --no-input "$@" -r "$file" || die "pip could not install $file"
    cp "$file" "$stamp"
}

[ $# -gt 0 ] || set -- build
for s in "$@"; do want "$s"; done

if is_debian_12; then
    missing=$(missing_packages | tr ' ' '\n' | sort -u | tr '\n' ' ')
    # Built or unpacked by other means is as good, as on a machine that reaches no package source.
    [ -z "$missing" ] || [ -n "$(missing_elsewhere)" ] || {
        say "every program and library needed is here; apt does not know of: $missing"
        missing=''
    }
    [ -z "$missing" ] || install_packages "$missing"
else
    missing=$(missing_elsewhere | tr ' ' '\n' | sort -u | tr '\n' ' ')
    [ -z "$missing" ] || die "this is not Debian 12 or later; install these first: $missing"
fi
[ $venv = no ] || make_venv
[ $cuda = no ] || make_cuda
for r in $runtimes; do
    case $r in
    pytorch-cuda) make_runtime .venv "$r" ;;
    compiled-export) make_runtime .export-venv "$r" ;;
    openvino-export) make_runtime .openvino-venv "$r" ;;
    *) make_runtime .venv "$r" --no-deps ;; # of their Python parts only numpy would be needed, and nothing here is Python
    esac
done
