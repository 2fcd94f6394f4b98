#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Other people's runtimes behind a real server: the golden scores come back, padding is told in /metrics, settings reach
the plug-in, what it can't do ends the start with one line. Skipped where none of them is installed (tools/setup.sh)."""

import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import PROGRAM, Client, Server, golden, model

FOREIGN = ("onnx", "openvino", "pytorch")
SETTING = {"onnx": "model.onnx.optimize=false", "openvino": "model.openvino.threads=1"}


def present():
    out = subprocess.run([PROGRAM, "doctor", "--no-peak", "--no-run", "--json"], capture_output=True, check=True).stdout
    return {b["name"]: b for b in json.loads(out)["backends"] if b["available"] and b["name"] in FOREIGN}


HERE = present()


def refused(*args):
    done = subprocess.run([PROGRAM, "serve", "--listen", "127.0.0.1:0", *args], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stderr
    return done.stderr


class Runtimes(unittest.TestCase):
    def test_golden_scores_and_padding(self):
        cases = golden("cross-encoder")
        pairs = [(c["query"], c["document"]) for c in cases]
        for name in HERE:
            more = ["--set", SETTING[name]] if name in SETTING else []
            with Server("--model", model("cross-encoder"), "--backend", name, *more) as server, \
                    Client(server.address) as client:
                scores = client.score(pairs).scores
                for score, case in zip(scores, cases):
                    self.assertAlmostEqual(score, case["final"][0], delta=1e-4, msg=name)
                totals = client.stats()
                self.assertEqual(totals.models[0].backend, name)
                self.assertEqual(totals.models[0].precision_effective, "fp32")
                self.assertLess(totals.padding_tokens, totals.tokens, name)

    def test_wrong_settings_are_one_line(self):
        if "onnx" in HERE:
            self.assertIn("name different providers",
                          refused("--model", model("cross-encoder"), "--backend", "onnx", "--set", "model.onnx.use_gpu=true",
                                  "--set", "model.onnx.provider=cpu"))
            if "fp16" not in HERE["onnx"]["precisions"]:
                err = refused("--model", model("cross-encoder"), "--backend", "onnx", "--set", "model.precision=fp16")
                self.assertIn("fp16", err)
                self.assertEqual(len(re.findall(r"\n", err.strip())), 0, err)
        if "openvino" in HERE:
            self.assertIn("tools/export_openvino.py", refused("--model", model("embedder-cls"), "--backend", "openvino",
                                                              "--set", "model.precision=int8"))

    def test_fallback_says_so(self):
        for name, backend in HERE.items():
            missing = next((p for p in ("fp16", "int4") if p not in backend["precisions"]), None)
            if not missing:
                continue
            with Server("--model", model("cross-encoder"), "--backend", name, "--set", "model.precision=" + missing,
                        "--set", "model.on_unsupported=fallback") as server, Client(server.address) as client:
                found = client.stats().models[0]
                self.assertEqual(found.precision_requested, missing)
                self.assertNotEqual(found.precision_effective, missing)
                self.assertIn("requested", found.precision_reason)


if __name__ == "__main__":
    if not HERE:
        print("skipped: none of %s is installed (tools/setup.sh NAME)" % ", ".join(FOREIGN), file=sys.stderr)
        sys.exit(77)
    unittest.main()
