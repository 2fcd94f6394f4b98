#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The int8 graph that the openvino backend loads: couplet's own ONNX graph, quantised after training by NNCF with scales
calibrated on texts, written beside the model as openvino_int8.xml, .bin and .json (which weights it belongs to).

    tools/setup.sh openvino-export
    .openvino-venv/bin/python tools/export_openvino.py MODEL_DIR [--texts FILE] [--count 300] [--program build/couplet]

--texts: JSON lines with query and document (or text); without it seeded rows of English words, so that the tool
needs no data. What it lost is printed: beside fp32 on texts it wasn't calibrated on.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELD_OUT = 64
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def vocabulary():
    """English words, for texts that look like texts to a tokenizer."""
    words = (ROOT / "src/text/english_words.c").read_text()
    found = [w for line in words.splitlines() if line.strip().startswith('"') for w in line.strip().strip('";').split()]
    return [w for w in found if w.isalpha()]


def seeded(count):
    rng, words = random.Random(7), vocabulary()
    text = lambda low, high: " ".join(rng.choice(words) for _ in range(rng.randint(low, high)))  # noqa: E731
    short = lambda i: text(0, 0) if i % 12 == 0 else text(1, 12)  # noqa: E731
    return [(text(1, 12), short(i) if i % 3 == 0 else text(10, 120)) for i in range(count)]


def read(path, count):
    rows = [json.loads(line) for line in open(path, encoding="utf-8") if line.strip()][:count]
    return [(r["query"], r["document"]) if "query" in r else (r["text"], None) for r in rows]


def tokenize(program, model, texts, pairs):
    """Ids and types by couplet's own tokenizer."""
    lines = "".join(json.dumps({"query": q, "document": d} if pairs else {"text": q if d is None else d}) + "\n" for q, d in texts)
    out = subprocess.run([program, "tokenize", "--format", "jsonl", "--model", model] + (["--pair"] if pairs else []), input=lines, text=True,
                         capture_output=True, check=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return [(r["ids"], r["type_ids"]) for r in rows]


def feed(np, row):
    ids, types = (np.array([v], np.int64) for v in row)
    return dict(zip(NAMES, (ids, np.ones_like(ids), types)))


def compare(np, ov, fp32, int8, rows):
    core, config = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    a, b = (core.compile_model(m, "CPU", config) for m in (fp32, int8))
    worst, cosines = 0.0, []
    for row in rows:
        x, y = (np.array(k(feed(np, row))[0], np.float64) for k in (a, b))
        if x.ndim == 3:
            x, y = x.mean(1), y.mean(1)
        worst = max(worst, float(np.abs(x - y).max()))
        cosines.append(float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())))
    return worst, min(cosines), sum(cosines) / len(cosines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--texts")
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--program", default=str(ROOT / "build/couplet"))
    a = p.parse_args()
    try:
        import nncf
        import numpy as np
        import openvino as ov
    except ImportError as e:
        sys.exit("%s: run tools/setup.sh openvino-export and use .openvino-venv/bin/python" % e)
    config = json.loads(pathlib.Path(a.model, "config.json").read_text())
    cross = config.get("architectures", [""])[0].endswith("ForSequenceClassification")
    texts = read(a.texts, a.count + HELD_OUT) if a.texts else seeded(a.count + HELD_OUT)
    rows = tokenize(a.program, a.model, texts, cross)
    held_out, rows = rows[-min(HELD_OUT, len(rows) // 4):], rows[:a.count]
    with tempfile.TemporaryDirectory() as directory:
        graph = os.path.join(directory, "fp32.onnx")
        subprocess.run([a.program, "export", "--model", a.model, graph] + ([] if cross else ["--tokens"]), check=True)
        model = ov.Core().read_model(graph)
        data = nncf.Dataset([feed(np, r) for r in rows])
        quantised = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
        worst, low, mean = compare(np, ov, model, quantised, held_out)
        out = pathlib.Path(a.model, "openvino_int8.xml")
        ov.save_model(quantised, out, compress_to_fp16=False)
    crc = zlib.crc32(pathlib.Path(a.model, "model.safetensors").read_bytes())
    made = {"weights_crc32": crc, "openvino": ov.__version__, "nncf": nncf.__version__, "texts": a.texts or "seeded",
            "calibrated_on": len(rows), "worst_element": worst, "worst_cosine": low, "mean_cosine": mean}
    out.with_suffix(".json").write_text(json.dumps(made, indent=2) + "\n")
    print("%s: %d texts; lost on %d others: element %.3g, cosine %.5f worst, %.5f mean" %
          (out, len(rows), len(held_out), worst, low, mean))


main()
