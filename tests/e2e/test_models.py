#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real server with several models: routed by name in every dialect. Nothing here asserts a time."""

import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Client, Server, code_and_details, golden, grpc, message, model, request
from prometheus_client.parser import text_string_to_metric_families
from test_http import Http

Code = grpc.StatusCode


def entries(*lines):
    return "models=[" + ", ".join("{" + line + "}" for line in lines) + "]"


TWO = entries(f"name: ce, path: {model('cross-encoder')}", f"name: org/emb, path: {model('embedder-mean')}")


class SeveralModels(unittest.TestCase):
    def test_requests_go_to_the_model_they_name(self):
        pairs = [(c["query"], c["document"]) for c in golden("cross-encoder")]
        alone = {}
        for name, folder in (("ce", "cross-encoder"), ("org/emb", "embedder-mean")):
            with Server("--model", model(folder)) as server, Client(server.address) as client:
                alone[name] = list(client.score(pairs).scores)
        self.assertNotEqual(alone["ce"], alone["org/emb"])
        with Server("--set", TWO) as server, Client(server.address) as client, Http(server.address) as web:
            for name, scores in alone.items():
                self.assertEqual(list(client.score(pairs, metadata=[("model", name)]).scores), scores)
                status, _, ranks = web.post("/rerank", {"model": name, "query": pairs[0][0], "texts": [pairs[0][1]]})
                self.assertEqual(status, 200)
                self.assertAlmostEqual(ranks[0]["score"], scores[0], delta=1e-6)
            status, _, vectors = web.post("/embed", {"model": "org/emb", "inputs": "one"})
            self.assertEqual(status, 200)
            self.assertEqual([m["name"] for m in web.ask("GET", "/info")[2]["models"]], ["ce", "org/emb"])
            self.assertEqual([m.name for m in client.stats().models], ["ce", "org/emb"])

    def test_an_unknown_or_missing_name_is_not_found_and_says_what_is_served(self):
        with Server("--set", TWO) as server, Client(server.address) as client, Http(server.address) as web:
            for metadata, part in (([("model", "nobody")], "'nobody' is not served here: 'ce' and 'org/emb' are"),
                                   ([], "request names no model, and several are served: 'ce' and 'org/emb'")):
                code, details = code_and_details(client.infer, request([("a", "b")]), metadata=metadata, timeout=60)
                self.assertEqual(code, Code.NOT_FOUND)
                self.assertIn(part, details)
                body = {"query": "a", "texts": ["b"], **{k: v for k, v in metadata}}
                status, _, error = web.post("/rerank", body)
                self.assertEqual((status, error["error_type"]), (404, "NotFound"))
                self.assertIn(part, error["error"])
            # The only model takes whatever name a client of that dialect must send.
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            status, _, _ = web.post("/rerank", {"model": "whatever", "query": "a", "texts": ["b"]})
            self.assertEqual(status, 200)


def samples(web, name):
    """A metric's samples by (model, replica), or with the outcome as well."""
    found = {}
    for family in text_string_to_metric_families(web.ask("GET", "/metrics")[2]):
        for s in family.samples:
            if s.name == name:
                found[tuple(s.labels[k] for k in ("model", "replica", "outcome") if k in s.labels)] = s.value
    return found


class Figures(unittest.TestCase):
    def test_each_model_has_its_own(self):
        with Server("--set", TWO) as server, Client(server.address) as client, Http(server.address) as web:
            for _ in range(3):
                client.score([("a", "b")] * 5, metadata=[("model", "ce")])
            client.score([("a", "b")], metadata=[("model", "org/emb")])
            done = samples(web, "couplet_model_requests_total")
            self.assertEqual((done[("ce", "done")], done[("org/emb", "done")]), (3 + 1, 1 + 1))  # and the first pair
            self.assertEqual(samples(web, "couplet_model_sequences_total")[("ce",)], 15 + 1)
            self.assertEqual(samples(web, "couplet_model_padding_tokens_total")[("ce",)], 0)
            ce, emb = client.stats().models
            self.assertEqual((ce.tasks_done, emb.tasks_done, ce.sequences, ce.weight), (4, 2, 16, 1))
            self.assertEqual(client.stats().tokens, ce.tokens + emb.tokens)
            self.assertGreater(ce.busy_ns, 0)

    def test_replicas_take_turns(self):
        pool = "model_pool.instances=[{precision: int8}, {precision: int8}]"
        for how in (["--set", pool], ["--set", "model.replicas=2", "--precision", "int8"]):
            with Server("--model", model("cross-encoder"), *how) as server, Client(server.address) as client:
                scores = {tuple(client.score([("a b", "c d")]).scores) for _ in range(10)}
                self.assertEqual(len(scores), 1)
                with Http(server.address) as web:
                    done = samples(web, "couplet_model_requests_total")
                    name = "cross-encoder"
                    self.assertEqual((done[(name, "0", "done")], done[(name, "1", "done")]), (6, 6))
                    info = web.ask("GET", "/info")[2]["models"]
                    self.assertEqual([(m["replica"], m["replicas"]) for m in info], [(0, 2), (1, 2)])


class LoadAndUnload(unittest.TestCase):
    def test_models_come_and_go(self):
        with Server("--set", TWO) as server, Client(server.address) as client, Http(server.address) as web:
            with Server("--model", model("cross-encoder"), "--precision", "int8") as other, \
                    Client(other.address) as alone:
                int8 = list(alone.score([("one two", "three")]).scores)
            fp32 = list(client.score([("one two", "three")], metadata=[("model", "ce")]).scores)
            self.assertNotEqual(int8, fp32)
            new = {"name": "new", "path": model("cross-encoder"), "precision": "int8"}
            status, _, body = web.post("/models/load", new)
            self.assertEqual((status, body), (200, {"name": "new", "state": "served"}))
            self.assertEqual(list(client.score([("one two", "three")], metadata=[("model", "new")]).scores), int8)
            # What the configuration says of a model holds when it is loaded again by its name; the rest changes.
            self.assertEqual(web.post("/models/load", {"name": "ce", "precision": "int8"})[0], 200)
            self.assertEqual(list(client.score([("one two", "three")], metadata=[("model", "ce")]).scores), int8)
            self.assertEqual(web.post("/models/load", {"name": "ce"})[0], 200)
            self.assertEqual(list(client.score([("one two", "three")], metadata=[("model", "ce")]).scores), fp32)
            for name in ("new", "ce"):
                status, _, body = web.post("/models/unload", {"name": name})
                self.assertEqual((status, body["state"]), (200, "unloaded"))
                code, details = code_and_details(client.infer, request([("a", "b")]), metadata=[("model", name)],
                                                 timeout=60)
                self.assertEqual(code, Code.NOT_FOUND)
            # The Open Inference Protocol's words for the same.
            index = web.ask("POST", "/v2/repository/index")[2]
            self.assertEqual([(m["name"], m["state"]) for m in index], [("org/emb", "READY")])
            parameters = {"parameters": {"path": model("cross-encoder"), "precision": "int8"}}
            self.assertEqual(web.post("/v2/repository/models/a%2Fb/load", parameters)[::2], (200, {}))
            self.assertEqual(list(client.score([("one two", "three")], metadata=[("model", "a/b")]).scores), int8)
            self.assertEqual({m["name"] for m in web.ask("POST", "/v2/repository/index")[2]}, {"org/emb", "a/b"})
            self.assertEqual(web.post("/v2/repository/models/a%2Fb/unload", {})[::2], (200, {}))
            self.assertEqual(web.post("/v2/repository/models/a%2Fb/unload", {})[0], 404)
            for path, body, status, part in (("a/load", {"parameters": 3}, 400, "'parameters' is not an object"),
                                             ("a/load", {"parameters": {"name": "b"}}, 400, "the path names the model"),
                                             ("a/load", {"parameters": {"pat": "b"}}, 400, "did you mean"),
                                             ("%2/load", {}, 400, "model name is broken"),
                                             ("a/b/load", {}, 404, ""), ("/load", {}, 404, "")):
                got, _, error = web.post("/v2/repository/models/" + path, body)
                self.assertEqual(got, status, path)
                self.assertIn(part, error["error"] if part else "")
            client.score([("a", "b")])  # one is left
            for path, body, status, part in (("unload", {"name": "org/emb"}, 412, "the only one"),
                                             ("unload", {"name": "x"}, 404, "'x' is not served here: 'org/emb' is"),
                                             ("unload", {}, 400, "'name' is missing"),
                                             ("load", {"name": "x"}, 404, "x"),
                                             ("load", {"nam": "x"}, 400, "did you mean 'model.name'"),
                                             ("load", {"name": "x", "path": ["y"]}, 400, "takes one value"),
                                             ("load", {"name": "x", "path": model("embedder-mean"), "precision": "fp8"},
                                              501, "fp8")):
                with self.subTest(body=body):
                    got, _, error = web.post("/models/" + path, body)
                    self.assertEqual(got, status, error)
                    self.assertIn(part, error["error"])

    def test_over_grpc(self):
        load, unload, reply = (message("couplet.v1." + n) for n in ("LoadModelRequest", "UnloadModelRequest", "ModelReply"))
        with Server("--set", TWO) as server, Client(server.address) as client:
            def call(method, asked, **kwargs):
                stub = client.channel.unary_unary("/couplet.v1.Models/" + method, type(asked).SerializeToString,
                                                  reply.FromString)
                return stub(asked, timeout=60, **kwargs)

            settings = "{name: new, path: '%s', precision: int8}" % model("cross-encoder")
            answer = call("Load", load(settings=settings))
            self.assertEqual((answer.name, answer.state), ("new", "served"))
            client.score([("a", "b")], metadata=[("model", "new")])
            answer = call("Unload", unload(name="new"))
            self.assertEqual((answer.name, answer.state), ("new", "unloaded"))
            for method, asked, code in (("Unload", unload(name="new"), Code.NOT_FOUND),
                                        ("Unload", unload(), Code.NOT_FOUND),
                                        ("Load", load(), Code.INVALID_ARGUMENT),
                                        ("Load", load(settings="{name: x}"), Code.NOT_FOUND)):
                self.assertEqual(code_and_details(call, method, asked)[0], code)
            code, _ = code_and_details(call, "Load", load(settings=settings), metadata=[("x-forwarded-for", "10.0.0.1")])
            self.assertEqual(code, Code.PERMISSION_DENIED)
            broken = client.channel.unary_unary("/couplet.v1.Models/Load", None, reply.FromString)
            self.assertEqual(code_and_details(broken, b"\x0a\xff", timeout=60)[0], Code.INVALID_ARGUMENT)

    def test_only_clients_on_this_machine_may(self):
        body = {"name": "x", "path": model("cross-encoder")}
        json_type = {"Content-Type": "application/json"}
        with Server("--set", TWO) as server, Http(server.address) as web:
            for headers in ({"Content-Type": "text/plain"}, {}, {**json_type, "Origin": "http://127.0.0.1"},
                            {**json_type, "X-Forwarded-For": "10.0.0.1"}, {**json_type, "Forwarded": "for=10.0.0.1"}):
                self.assertEqual(web.ask("POST", "/models/load", body, headers or {"A": "b"})[0], 403)
            self.assertEqual(web.ask("OPTIONS", "/models/load")[0], 405)
            self.assertEqual(len(web.ask("GET", "/info")[2]["models"]), 2)
        with Server("--set", TWO, "--set", "server.admin=off") as server, Http(server.address) as web:
            status, _, error = web.post("/models/load", body)
            self.assertEqual(status, 403)
            self.assertIn("server.admin", error["error"])

    def test_nothing_fails_while_a_model_is_replaced_again_and_again(self):
        pairs = [("one two", "three"), ("four", "five six")]
        with Server("--set", TWO, "--threads", "2") as server:
            errors, done, stop = [], [0], threading.Event()

            def ask(name, metadata):
                with Client(server.address) as client:
                    wanted = None
                    while not stop.is_set():
                        try:
                            got = list(client.score(pairs, metadata=metadata).scores)
                        except grpc.RpcError as error:
                            errors.append((name, error.code(), error.details()))
                            return
                        wanted = wanted or got
                        if got != wanted:
                            errors.append((name, got, wanted))
                        done[0] += 1

            threads = [threading.Thread(target=ask, args=(n, [("model", n)])) for n in ("ce", "org/emb", "ce", "org/emb")]
            for t in threads:
                t.start()
            with Http(server.address) as web:
                for i in range(15):
                    # max_length changes the scratch, not these scores
                    body = {"name": ("ce", "emb")[i % 2], "max_length": (0, 20, 40)[i % 3], "replicas": 1 + i % 2}
                    if i % 2:
                        body["path"] = model("embedder-mean")
                        body["name"] = "org/emb"
                    status, _, answer = web.post("/models/load", body)
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(web.post("/models/load", {"name": "extra", "path": model("embedder-cls")})[0], 200)
                    self.assertEqual(web.post("/models/unload", {"name": "extra"})[0], 200)
            stop.set()
            for t in threads:
                t.join()
            self.assertEqual(errors, [])
            self.assertGreater(done[0], 20)


class TokenizerPool(unittest.TestCase):
    def test_large_requests_go_through_it_and_small_ones_do_not(self):
        small, large = [("a", "b")], [("one two", "three four " * 200)] * 40
        scores = {}
        for threads in (0, 2):
            with Server("--model", model("cross-encoder"), "--set", f"tokenizer_pool.num_workers={threads}") as server, \
                    Client(server.address) as client, Http(server.address) as web:
                self.assertEqual(web.ask("GET", "/info")[2]["tokenization_workers"], threads)
                scores[threads] = list(client.score(large).scores) + list(client.score(small).scores)
                stats = client.stats()
                self.assertEqual((stats.tasks_pooled, stats.tokenizer_threads), (1 if threads else 0, threads))
                self.assertEqual(stats.tokenize_ns.count, 3)  # and the first pair
        self.assertEqual(scores[0], scores[2])
        off = ("--set", "tokenizer_pool.enabled=false", "--set", "tokenizer_pool.num_workers=2")
        with Server("--model", model("cross-encoder"), *off) as server, Http(server.address) as web:
            self.assertEqual(web.ask("GET", "/info")[2]["tokenization_workers"], 0)


class Modes(unittest.TestCase):
    PAIRS = [("one two", "three four five"), ("six", "seven")]

    def test_tokenize_answers_without_scores_and_says_so(self):
        for pool in ([], ["--set", "tokenizer_pool.num_workers=2", "--set", "tokenizer_pool.inline_bytes=1"]):
            with Server("--model", model("cross-encoder"), "--set", "experiment.mode=tokenize", *pool) as server, \
                    Client(server.address) as client, Http(server.address) as web:
                reply, call = client.infer.with_call(request(self.PAIRS), timeout=60)
                self.assertEqual((list(reply.scores), reply.num_pairs, reply.status_code), ([], 2, 204))
                self.assertEqual(dict(call.initial_metadata())["x-couplet-mode"], "tokenize")
                self.assertNotIn("x-score-activation", dict(call.initial_metadata()))
                status, headers, body = web.post("/rerank", {"query": "one two", "texts": ["three"]})
                self.assertEqual((status, headers["x-couplet-mode"], body["mode"]), (200, "tokenize", "tokenize"))
                self.assertGreater(body["tokens"], 3)
                self.assertEqual(web.ask("GET", "/info")[2]["mode"], "tokenize")
                stats = client.stats()
                self.assertEqual((stats.mode, stats.passes), ("tokenize", 1))  # the first pair's
                self.assertEqual(stats.tokenize_ns.count, 3)
                self.assertIn("not scored", server.stderr())

    def test_inference_keeps_ids_and_scores_are_the_same(self):
        for name in ("cross-encoder", "embedder-mean"):
            with Server("--model", model(name)) as server, Client(server.address) as client:
                wanted = list(client.score(self.PAIRS).scores)
            with Server("--model", model(name), "--set", "experiment.mode=inference") as server, \
                    Client(server.address) as client, Http(server.address) as web:
                before = client.stats().models[0]
                for _ in range(3):
                    reply, call = client.infer.with_call(request(self.PAIRS), timeout=60)
                    self.assertEqual((list(reply.scores), reply.status_code), (wanted, 200))
                    self.assertEqual(dict(call.initial_metadata())["x-couplet-mode"], "inference")
                after = client.stats().models[0]
                sequences = 2 if name == "cross-encoder" else 4
                self.assertEqual(after.ids_made - before.ids_made, sequences)
                self.assertEqual(after.ids_found - before.ids_found, 2 * sequences)
                self.assertEqual(web.ask("GET", "/info")[2]["mode"], "inference")
                self.assertEqual(client.stats().mode, "inference")


if __name__ == "__main__":
    unittest.main()
