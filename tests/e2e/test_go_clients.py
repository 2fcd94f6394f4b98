#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""grpcurl and ghz against a real server. They are there where tools/get_go_tools.sh found a Go that builds them; else
this is reported as skipped."""

import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Server, model


def tool(name):
    path = os.path.join(harness.ROOT, ".venv", "bin", name)
    return path if os.access(path, os.X_OK) else shutil.which(name)


class GoClients(unittest.TestCase):
    def test_grpcurl(self):
        with Server("--model", model("cross-encoder")) as server:
            run = lambda *args: subprocess.run([tool("grpcurl"), "-plaintext", *args], capture_output=True, text=True, timeout=60)
            listed = run(server.address, "list")
            self.assertIn("inference.InferenceService", listed.stdout, listed.stderr)
            described = run(server.address, "describe", "inference.Pair")
            self.assertIn("string query = 1", described.stdout, described.stderr)
            data = json.dumps({"pairs": [{"query": "a", "document": "b"}, {}]})
            answer = run("-d", data, server.address, "inference.InferenceService/Infer")
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertEqual(len(json.loads(answer.stdout)["scores"]), 2)
            refused = run("-d", "{}", server.address, "inference.InferenceService/Infer")
            self.assertIn("InvalidArgument", refused.stderr)
            health = run(server.address, "grpc.health.v1.Health/Check")
            self.assertIn("SERVING", health.stdout, health.stderr)

    def test_ghz(self):
        with Server("--model", model("cross-encoder")) as server:
            data = json.dumps({"pairs": [{"query": "how tall", "document": "very tall"}] * 4})
            done = subprocess.run([tool("ghz"), "--insecure", "--call", "inference.InferenceService.Infer", "-d", data, "-n",
                                   "2000", "-c", "16", "--connections", "4", "-O", "json", server.address],
                                  capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["statusCodeDistribution"], {"OK": 2000})


if __name__ == "__main__":
    missing = [name for name in ("grpcurl", "ghz") if not tool(name)]
    if missing:
        print("skipped:", " and ".join(missing), "not built here (tools/get_go_tools.sh)", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
