#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`couplet tune` over the fake backend, whose cost and loss are known: the answer is, and the file it writes is one that
`serve --config` takes. Costs are sleeps of tens of milliseconds, factors apart, so that a busy machine changes no answer."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import PROGRAM, Server, model

MODEL = model("cross-encoder")


def tune(folder, *args, expect=0):
    base = ["--model", MODEL, "--backend", "fake", "--threads", "1", "--batch-tokens", "512", "--seconds", "0.3",
            "--rounds", "1", "--finalists", "1", "--quality-pairs", "60", "--lengths", "100",
            "--output", os.path.join(folder, "tuned"), "--json", "--set", "model.fake.fixed_us=20000"]
    done = subprocess.run([PROGRAM, "tune", *base, *args], capture_output=True, text=True, timeout=280)
    if done.returncode != expect:
        raise AssertionError(f"{done.returncode}: {done.stderr} {done.stdout}")
    return json.loads(done.stdout) if done.stdout else done.stderr


class Tune(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def test_the_cheaper_precision_and_the_policy_that_batches(self):
        for _ in range(4):  # it searches by measuring: a machine that stalls for a probe's length may hide the best once
            r = tune(self.folder.name, "--slo", "p50=500ms", "--max-loss", "0.05", "--policy", "off", "--policy",
                     "greedy", "--set", "model.fake.int8_percent=25", "--set", "model.fake.int8_noise=10")
            best = r["best"]
            if best["precision"] == "int8" and best["policy"] == "greedy":
                break
        self.assertEqual((best["precision"], best["policy"], best["workers"]), ("int8", "greedy", "1"))
        self.assertEqual(len(best["rounds"]), 1)
        by = {v["precision"]: v for v in r["variants"]}
        self.assertEqual(by["fp32"]["loss"], 0)
        self.assertTrue(0 < by["int8"]["loss"] < 0.05 and by["int8"]["allowed"] and by["int8"]["frontier"])
        with open(os.path.join(self.folder.name, "tuned.md")) as f:
            page = f.read()
        self.assertIn("**fake int8, policy greedy", page)
        self.assertIn("Speed against loss", page)
        config = os.path.join(self.folder.name, "tuned.yaml")
        with open(config) as f:
            text = f.read()
        # All that was measured with is in the file, as values.
        for line in ("    fixed_us: 20000\n", "    int8_percent: 25\n", "  policy: greedy\n", "workers: 1\n",
                     "  max_batch_tokens: 512\n"):
            self.assertIn(line, text)
        with Server("--config", config) as server:
            sent = subprocess.run([PROGRAM, "load", "--target", server.address, "--requests", "10", "--json"],
                                  capture_output=True, text=True, timeout=60)
            load = json.loads(sent.stdout)
            self.assertEqual((load["failed"], load["server"]["precision"]["effective"]), (0, "int8"))

    def test_a_loss_that_is_not_permitted(self):
        r = tune(self.folder.name, "--slo", "p50=500ms", "--max-loss", "0.01", "--policy", "greedy",
                 "--set", "model.fake.int8_percent=25", "--set", "model.fake.int8_noise=2000")
        self.assertEqual(r["best"]["precision"], "fp32")
        lossy = next(v for v in r["variants"] if v["precision"] == "int8")
        self.assertFalse(lossy["allowed"])
        self.assertIn("more than the 0.01 permitted", lossy["why"])
        self.assertGreater(lossy["best_pairs_per_s"], 0)  # what the loss would have bought

    def test_what_holds_nowhere(self):
        r = tune(self.folder.name, "--slo", "p50=5ms", "--policy", "greedy", "--precision", "fp32", expect=1)
        self.assertNotIn("best", r)
        self.assertEqual(r["tried"][0]["pairs_per_s"], 0)
        self.assertIn("holds at no rate", r["tried"][0]["why"])
        self.assertFalse(os.path.exists(os.path.join(self.folder.name, "tuned.yaml")))

    def test_wrong_questions(self):
        self.assertIn("percentile", tune(self.folder.name, "--slo", "20ms", expect=2))
        self.assertIn("nothing to choose from", tune(self.folder.name, "--precision", "fp16", expect=2))
        r = tune(self.folder.name, "--policy", "sometimes", "--precision", "fp32", expect=1)
        self.assertIn("sometimes", r["tried"][0]["why"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
