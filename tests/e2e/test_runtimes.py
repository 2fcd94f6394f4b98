#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Other people's runtimes behind a real server: the golden scores come back, padding is told in /metrics, settings reach
the plug-in, what it can't do ends the start with one line. Skipped where none of them is installed (tools/setup.sh)."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import PROGRAM, Client, Server, golden, model

FOREIGN = ("onnx", "openvino", "pytorch", "compiled", "mlx")
SETTING = {"onnx": "model.onnx.optimize=false", "openvino": "model.openvino.threads=1"}


def present():
    out = subprocess.run([PROGRAM, "doctor", "--no-peak", "--no-run", "--json"], capture_output=True, check=True).stdout
    return {b["name"]: b for b in json.loads(out)["backends"] if b["available"] and b["name"] in FOREIGN}


HERE = present()
PACKAGE = os.path.join(os.environ.get("COUPLET_COMPILED", ""), "cross-encoder-fp32-default.pt2")
PACKAGE = PACKAGE if os.environ.get("COUPLET_COMPILED") and os.path.exists(PACKAGE) else None


def refused(*args):
    done = subprocess.run([PROGRAM, "serve", "--listen", "127.0.0.1:0", *args], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stderr
    return done.stderr


class Runtimes(unittest.TestCase):
    def test_golden_scores_and_padding(self):
        cases = golden("cross-encoder")
        pairs = [(c["query"], c["document"]) for c in cases]
        for name in HERE:
            if name == "compiled" and not PACKAGE:
                continue
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
            err = refused("--model", model("cross-encoder"), "--backend", "onnx", "--set", "model.precision=bf16")
            self.assertIn("fp32, fp16 and int8", err)
            self.assertEqual(len(re.findall(r"\n", err.strip())), 0, err)
        if "openvino" in HERE:
            self.assertIn("tools/export_openvino.py", refused("--model", model("embedder-cls"), "--backend", "openvino",
                                                              "--set", "model.precision=int8"))

    def test_a_graph_needs_no_weights(self):
        """A model of the user's as exporters leave it: config, tokenizer, model.onnx."""
        if "onnx" not in HERE:
            self.skipTest("no ONNX Runtime")
        for name in ("cross-encoder", "embedder-mean"):
            with tempfile.TemporaryDirectory() as directory:
                shutil.copytree(model(name), directory, dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns("*.safetensors", "openvino*", "compiled*"))
                err = refused("--model", directory, "--backend", "onnx").strip()
                self.assertIn("model.safetensors", err)
                os.mkdir(directory + "/onnx")
                subprocess.run([PROGRAM, "export", "--model", model(name), directory + "/onnx/model.onnx"], check=True,
                               capture_output=True)
                with Server("--model", directory, "--backend", "onnx") as server, Client(server.address) as client, \
                        Server("--model", model(name)) as ours, Client(ours.address) as other:
                    pairs = [("what is it", "this is it"), ("how far", "a mile or two from here")]
                    for a, b in zip(client.score(pairs).scores, other.score(pairs).scores):
                        self.assertAlmostEqual(a, b, delta=1e-4, msg=name)
                err = refused("--model", directory, "--backend", "native").strip()
                self.assertIn("onnx/model.onnx is run by backend onnx", err)
                self.assertNotIn("\n", err)
                if name == "embedder-mean":
                    continue
                with open(directory + "/config.json") as f:
                    config = json.load(f)
                config["id2label"] = {str(i): "L%d" % i for i in range(5)}
                with open(directory + "/config.json", "w") as f:
                    json.dump(config, f)
                err = refused("--model", directory, "--backend", "onnx").strip()
                self.assertNotIn("\n", err)
                self.assertIn("of this model's size", err)

    def refused_in_one_line(self, backend, says, *more):
        err = refused("--model", model("cross-encoder"), "--backend", backend, *more).strip()
        for word in says:
            self.assertIn(word, err)
        self.assertEqual(err.count("\n"), 0, err)

    def test_libtorch_devices(self):
        if "pytorch" not in HERE:
            self.skipTest("no libtorch")
        self.refused_in_one_line("pytorch", ["tpu", "cpu, cuda, cuda:N or mps"], "--set", "model.device=tpu")
        if sys.platform == "linux":
            self.refused_in_one_line("pytorch", ["no Metal"], "--set", "model.device=mps")
            self.refused_in_one_line("mps", ["no Metal"], "--set", "model.mps.fp16=true")
        self.refused_in_one_line("pytorch", ["int4"], "--precision", "int4")

    def test_compiled_packages(self):
        if "compiled" not in HERE:
            self.skipTest("no libtorch")
        self.refused_in_one_line("compiled", ["tools/export_compiled.py", "--mode no-such"], "--set",
                                 "model.compiled.mode=no-such")
        with tempfile.NamedTemporaryFile(suffix=".pt2") as broken:
            broken.write(b"no package " * 100)
            broken.flush()
            self.refused_in_one_line("compiled", [broken.name, "can't be read"], "--set",
                                     "model.compiled.package=" + broken.name)
        if not PACKAGE:
            self.skipTest("no package in COUPLET_COMPILED: only refusals were tried")
        given = ["--set", "model.compiled.package=" + PACKAGE]
        self.refused_in_one_line("compiled", ["'fp32'", "'fp16'"], "--precision", "fp16", *given)
        self.refused_in_one_line("compiled", ["'default'", "'reduce-overhead'"], "--set",
                                 "model.compiled.mode=reduce-overhead", *given)
        err = refused("--model", model("cross-encoder-3-labels"), "--backend", "compiled", *given)
        self.assertIn("fingerprint", err)

    def test_mlx_groups(self):
        if "mlx" not in HERE:
            self.skipTest("no MLX")
        self.refused_in_one_line("mlx", ["48", "32, 64 or 128"], "--set", "model.mlx.group_size=48")
        for group in ("32", "128"):
            with Server("--model", model("cross-encoder"), "--backend", "mlx", "--set", "model.mlx.bits=4", "--set",
                        "model.mlx.group_size=" + group) as server, Client(server.address) as client:
                self.assertEqual(client.stats().models[0].precision_effective, "int4")

    def test_fallback_says_so(self):
        for name, backend in HERE.items():
            if name == "compiled":  # what stands in needs a package of its own
                continue
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
