# SPDX-License-Identifier: Apache-2.0
"""The graphs that couplet writes, held by other people's tools: onnx's checker with shape inference, and ONNX Runtime's
own Python interface against the golden rows, padded and in a batch. Skipped where onnx or onnxruntime is not installed
(python3 -m pip install onnx onnxruntime; COUPLET_VENV may name the environment)."""
import glob
import json
import os
import subprocess
import sys
import tempfile

venv = os.environ.get("COUPLET_VENV")
if venv:
    sys.path[:0] = glob.glob(venv + "/lib/python3*/site-packages")
try:
    import numpy as np
    import onnx
    import onnxruntime
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)

PROGRAM = os.environ["COUPLET_PROGRAM"]
MODELS = ["cross-encoder", "cross-encoder-3-labels", "embedder-mean", "embedder-cls", "embedder-max"]
BOUNDS = {"fp32": 1e-5, "fp16": 0.02, "int8": 0.5}
PADDING = 3


def export(directory, model, precision, *more):
    path = os.path.join(directory, "graph.onnx")
    subprocess.run([PROGRAM, "export", "--model", model, "--precision", precision, *more, path], check=True)
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def padded(case, longest):
    """The case's ids and those of its first half, in one rectangle."""
    n, half = len(case["ids"]), (len(case["ids"]) + 1) // 2
    width = min(n + PADDING, longest)
    ids, types, mask = (np.zeros((2, width), np.int64) for _ in range(3))
    for row, length in enumerate((n, half)):
        ids[row, :length] = case["ids"][:length]
        types[row, :length] = case["type_ids"][:length]
        mask[row, :length] = 1
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


def main():
    worst = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in MODELS:
            golden = json.load(open("tests/golden/%s.json" % name))
            config = json.load(open(golden["model"] + "/config.json"))
            for precision in BOUNDS:
                session = export(directory, golden["model"], precision)
                tokens = export(directory, golden["model"], precision, "--tokens")
                for case in golden["cases"]:
                    feed = padded(case, config["max_position_embeddings"])
                    row = session.run(None, feed)[0][0]
                    error = np.abs(row - np.array(case["row"], np.float32)).max()
                    if "tokens" in case:
                        states = tokens.run(None, feed)[0][0][:len(case["ids"])]
                        error = max(error, np.abs(states.ravel() - np.array(case["tokens"], np.float32)).max())
                    worst[precision] = max(worst.get(precision, 0), float(error))
                    assert np.isfinite(row).all() and error <= BOUNDS[precision], (name, precision, len(case["ids"]), error)
    print("worst element:", worst)
    out = subprocess.run([PROGRAM, "export", "--model", golden["model"], "--precision", "int3", "x.onnx"],
                         capture_output=True, text=True)
    assert out.returncode != 0 and "unknown precision 'int3'" in out.stderr, out.stderr


main()
