#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`couplet serve` as a program: addresses, settings and where they come from, logs, and what isn't its protocol."""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Client, Server, cross_encoder, model


class Addresses(unittest.TestCase):
    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            with cross_encoder(listen=(f"unix:{path}", "127.0.0.1:0")) as server:
                self.assertEqual(server.addresses[0], f"unix:{path}")
                scores = []
                for address in server.addresses:
                    with Client(address) as client:
                        scores.append(list(client.score([("a", "b")]).scores))
                self.assertEqual(scores[0], scores[1])
            self.assertFalse(os.path.exists(path))

    def test_port_in_use(self):
        with cross_encoder() as server:
            with self.assertRaises(AssertionError) as failed:
                cross_encoder(listen=(server.address,))
            self.assertIn(server.address, str(failed.exception))


class Settings(unittest.TestCase):
    def fails(self, *args, status=(1, 2)):
        done = subprocess.run([harness.PROGRAM, "serve", *args], capture_output=True, text=True, timeout=120,
                              cwd=harness.ROOT)
        self.assertIn(done.returncode, status)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        return done.stderr

    def test_mistakes_are_one_line(self):
        small = ("--model", model("cross-encoder"))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "c.yaml")
            with open(path, "w") as f:
                f.write("batching:\n  timout_ms: 5\n")
            self.assertIn(f"{path}:2:3: unknown key 'batching.timout_ms': did you mean 'batching.timeout_ms'?",
                          self.fails("--config", path))
        self.assertIn("did you mean", self.fails(*small, "--set", "worker=3"))
        self.assertIn("'server.api_keys' is not supported in this version",
                      self.fails(*small, "--set", "server.api_keys=[a]"))
        self.assertIn("--precision", self.fails(*small, "--precision", "fp33"))
        self.assertIn("keep one of them", self.fails(*small, "--precision", "fp16", "--set", "model.quantized=true"))
        self.assertIn("nowhere-model", self.fails("--model", "nowhere-model"))
        self.assertIn("nothing", self.fails(*small, "--backend", "nothing", "--set", "log.level=error"))
        self.assertIn("bf16", self.fails(*small, "--backend", "fake", "--precision", "bf16", "--set",
                                         "log.level=error"))
        self.assertIn("model.score_label", self.fails(*small, "--set", "model.score_label=7", "--set",
                                                      "log.level=error"))

    def test_flags_override_files(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "base_config.yaml"), "w") as f:
                f.write("workers: 5\nnet_threads: 2\nmodel: {name: nothing}\n")
            path = os.path.join(folder, "x.yaml")
            with open(path, "w") as f:
                f.write("workers: 3\nexperiment: {batch_sizes: [8, 16]}\n")
            done = subprocess.run([harness.PROGRAM, "serve", "--experiment", path, "--set", "workers=2", "--model", "m",
                                   "--print-config"], capture_output=True, text=True, check=True, timeout=60)
            self.assertIn("workers: 2  # --set", done.stdout)
            self.assertIn("name: m  # --model", done.stdout)
            self.assertIn(f"net_threads: 2  # {folder}/base_config.yaml:2", done.stdout)
            self.assertIn("batch_sizes: [8, 16]", done.stdout)

    def test_the_seeded_model_stands_in_only_for_experiments_and_says_so(self):
        wanted = "cross-encoder/ms-marco-MiniLM-L-6-v2"
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "models"))
            os.symlink(model("cross-encoder"), os.path.join(folder, "models", "seeded-cross-encoder"))
            path = os.path.join(folder, "x.yaml")
            with open(path, "w") as f:
                f.write(f"model: {{name: {wanted}}}\n")
            nowhere = {"HF_HOME": folder, "HF_HUB_CACHE": ""}
            with Server("--experiment", path, folder=folder, environment=nowhere) as server:
                with Client(server.address) as client:
                    self.assertEqual(client.stats().models[0].dir, "models/seeded-cross-encoder")
                    self.assertEqual(len(client.score([("a", "b")]).scores), 1)
            self.assertIn("its scores mean nothing", server.stderr())
            with self.assertRaises(AssertionError) as failed:
                Server("--config", path, folder=folder, environment=nowhere)
            self.assertIn(f"model '{wanted}' not found", str(failed.exception))

    def test_json_log(self):
        server = cross_encoder("--set", "log.format=json")
        self.assertEqual(server.stop(), 0)
        events = [json.loads(line) for line in server.errors]
        self.assertTrue(all({"time", "level", "msg"} == set(e) for e in events))
        self.assertTrue(any("draining" in e["msg"] for e in events))

    def test_every_batching_policy_gives_the_same_scores(self):
        pairs = [("how tall is it", "tall " * n) for n in range(1, 30)]
        seen = []
        for policy in (["batching.policy=off"], ["batching.policy=greedy"], ["batching.enabled=false"],
                       ["batching.max_batch_size=8", "batching.timeout_ms=2"], ["batching.max_batch_tokens=64"],
                       ["tokenizer_pool.num_workers=2", "tokenizer_pool.inline_bytes=1"]):
            args = [x for setting in policy for x in ("--set", setting)]
            with cross_encoder(*args) as server, Client(server.address) as client:
                seen += [list(client.score(pairs).scores) for _ in range(30)]  # each must end, not only the first
        for scores in seen[1:]:
            self.assertEqual(scores, seen[0])

    def test_descriptors_for_the_connections(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with cross_encoder("--set", "server.limits.connections=700",
                           before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))) as server:
            soft = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0]
            self.assertGreater(soft, 700)
        with cross_encoder("--set", "server.limits.connections=700",
                           before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))) as server:
            pass
        self.assertIn("'server.limits.connections' is 700 but", server.stderr())


class Raw(unittest.TestCase):
    def test_other_protocols_are_turned_away(self):
        with cross_encoder() as server:
            host, port = server.address.rsplit(":", 1)
            for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", os.urandom(500), b""):
                with socket.create_connection((host, int(port)), timeout=60) as s:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
            with Client(server.address) as client:
                self.assertEqual(len(client.score([("a", "b")]).scores), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
