#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real server and HTTP/1.1 clients: text-embeddings-inference's /rerank, /embed, /health, /info, and /metrics.
Nothing here asserts a time."""

import http.client
import json
import math
import os
import re
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Client, Server, golden, model
from prometheus_client.parser import text_string_to_metric_families


class Http:
    """One kept-alive connection."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, verb, path, body=None, headers=None):
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        self.connection.request(verb, path, body, headers or {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        data = reply.read()
        is_json = reply.headers["Content-Type"] == "application/json"
        return reply.status, reply.headers, json.loads(data) if is_json else data.decode()

    def post(self, path, body):
        return self.ask("POST", path, body)


class Rerank(unittest.TestCase):
    def test_ranks_are_the_golden_scores_in_order(self):
        cases = golden("cross-encoder")
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            for case in cases:
                status, headers, ranks = web.post("/rerank", {"query": case["query"], "texts": [case["document"]]})
                self.assertEqual((status, headers["x-score-activation"]), (200, "sigmoid"))
                self.assertAlmostEqual(ranks[0]["score"], case["final"][0], delta=1e-5)
            texts = [c["document"] for c in cases]
            with Client(server.address) as client:
                scores = client.score([(cases[0]["query"], t) for t in texts], metadata=[("x-raw-scores", "1")]).scores
            status, headers, ranks = web.post("/rerank", {"query": cases[0]["query"], "texts": texts, "raw_scores": True,
                                                          "return_text": True, "truncate": True, "unknown": 1})
            self.assertEqual((status, headers["x-score-activation"]), (200, "identity"))
            wanted = sorted(range(len(texts)), key=lambda i: (-scores[i], i))
            self.assertEqual([r["index"] for r in ranks], wanted)
            for r in ranks:
                self.assertEqual(r["text"], texts[r["index"]])
                self.assertAlmostEqual(r["score"], scores[r["index"]], delta=1e-6)

    def test_of_an_embedder_are_cosines(self):
        with Server("--model", model("embedder-mean")) as server, Http(server.address) as web:
            status, headers, ranks = web.post("/rerank", {"query": "one", "texts": ["two", "one"]})
            self.assertEqual((status, headers["x-score-activation"]), (200, "cosine"))
            self.assertEqual(ranks[0]["index"], 1)
            self.assertAlmostEqual(ranks[0]["score"], 1, delta=1e-5)

    def test_a_model_of_several_labels_needs_one_chosen(self):
        with Server("--model", model("cross-encoder-3-labels")) as server, Http(server.address) as web:
            status, _, error = web.post("/rerank", {"query": "a", "texts": ["b"]})
            self.assertEqual((status, error["error_type"]), (424, "Backend"))
            self.assertIn("model.score_label", error["error"])

    def test_what_is_wrong_is_said(self):
        cases = [
            (b"{", 400, "not valid JSON"),
            (b"", 400, "not valid JSON"),
            ([], 422, "must be a JSON object"),
            ({"texts": ["a"]}, 422, "missing field 'query'"),
            ({"query": "a"}, 422, "missing field 'texts'"),
            ({"query": 1, "texts": ["a"]}, 422, "'query' is not a string"),
            ({"query": "a", "texts": []}, 422, "'texts' is empty"),
            ({"query": "a", "texts": ["b", 3]}, 422, "'texts[1]' is not a string"),
            ({"query": "a", "texts": ["b"] * 5}, 422, "more than the limit of 4"),
            ({"query": "a", "texts": ["b" * 1001]}, 422, "more than the limit of 1000"),
            ({"query": "a", "texts": ["b"], "raw_scores": "yes"}, 422, "'raw_scores' must be true or false"),
            ({"query": "a", "texts": ["b"], "truncation_direction": "Left"}, 422, "Left is not supported"),
            ({"query": "a", "texts": ["b"], "truncation_direction": "Up"}, 422, "must be Left or Right"),
            ({"query": "a", "texts": ["b " * 300], "truncate": False}, 422, "inputs must have at most"),
            (b'{"query":"a","texts":["\xff"]}', 400, "not valid JSON"),
            (b'{"query":"a","texts":["b"],"query":"c"}', 400, "not valid JSON"),
        ]
        with Server("--model", model("cross-encoder"), "--set", "server.limits.max_pairs=4", "--set",
                    "server.limits.max_text_bytes=1000") as server, Http(server.address) as web:
            for body, status, text in cases:
                got, _, error = web.post("/rerank", body)
                self.assertEqual(got, status, (body, error))
                self.assertIn(text, error["error"])
                self.assertEqual(error["error_type"], "Validation")
            self.assertEqual(web.post("/rerank", {"query": "\0 \ud83d\ude00", "texts": ["b\0c"]})[0], 200)
            self.assertEqual(web.post("/rerank", {"query": "a", "texts": ["b"], "truncate": False})[0], 200)

    def test_a_full_queue_is_429_with_retry_after(self):
        with Server("--model", model("cross-encoder"), "--backend", "fake", "--threads", "1", "--set",
                    "model.fake.fixed_us=300000", "--set", "server.limits.queue_requests=1") as server:
            results, lock = [], threading.Lock()

            def one():
                with Http(server.address) as web:
                    status, headers, _ = web.post("/rerank", {"query": "a", "texts": ["b"]})
                    with lock:
                        results.append((status, headers["retry-after"]))

            threads = [threading.Thread(target=one) for _ in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertIn((200, None), results)
            self.assertIn((429, "1"), results)
            self.assertEqual({r[0] for r in results}, {200, 429})

    def test_many_clients_get_their_own_answers(self):
        with Server("--model", model("cross-encoder")) as server:
            wrong = []

            def client(k):
                with Http(server.address) as web:
                    texts = [f"text {k} {i}" for i in range(1 + k % 5)]
                    first = web.post("/rerank", {"query": f"query {k}", "texts": texts})[2]
                    for _ in range(20):
                        if web.post("/rerank", {"query": f"query {k}", "texts": texts})[2] != first:
                            wrong.append(k)

            threads = [threading.Thread(target=client, args=(k,)) for k in range(16)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(wrong, [])


class Embed(unittest.TestCase):
    def test_vectors_are_the_golden_ones(self):
        cases = [c for c in golden("embedder-mean") if "text" in c][:20]
        with Server("--model", model("embedder-mean")) as server, Http(server.address) as web:
            self.assertTrue(cases)
            status, _, rows = web.post("/embed", {"inputs": [c["text"] for c in cases]})
            self.assertEqual(status, 200)
            for row, case in zip(rows, cases, strict=True):
                norm = math.sqrt(sum(x * x for x in case["final"]))
                for got, want in zip(row, case["final"], strict=True):
                    self.assertAlmostEqual(got, want / norm, delta=1e-5)

    def test_options(self):
        with Server("--model", model("embedder-mean")) as server, Http(server.address) as web:
            whole = web.post("/embed", {"inputs": "a text"})[2][0]
            self.assertAlmostEqual(sum(x * x for x in whole), 1, delta=1e-5)
            raw = web.post("/embed", {"inputs": "a text", "normalize": False})[2][0]
            norm = math.sqrt(sum(x * x for x in raw))
            for a, b in zip(raw, whole, strict=True):
                self.assertAlmostEqual(a / norm, b, delta=1e-5)
            cut = web.post("/embed", {"inputs": "a text", "dimensions": 8})[2][0]
            self.assertEqual(len(cut), 8)
            self.assertAlmostEqual(sum(x * x for x in cut), 1, delta=1e-5)
            for body, text in [({"inputs": "a", "dimensions": 0}, "'dimensions' must be"), ({}, "missing field 'inputs'"),
                               ({"inputs": [[1, 2]]}, "token ids are not taken"),
                               ({"inputs": "a", "prompt_name": "query"}, "'prompt_name' is not supported")]:
                status, _, error = web.post("/embed", body)
                self.assertEqual(status, 422)
                self.assertIn(text, error["error"])

    def test_a_cross_encoder_has_none(self):
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            status, _, error = web.post("/embed", {"inputs": "a"})
            self.assertIn(status, (422, 424))
            self.assertIn("has no vectors", error["error"])


class Live(unittest.TestCase):
    def test_the_page_needs_nothing_from_elsewhere(self):
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            status, headers, page = web.ask("GET", "/")
            self.assertEqual(status, 200)
            self.assertTrue(headers["Content-Type"].startswith("text/html"))
            self.assertNotRegex(page, r"https?://|<link|src=|@import")
            self.assertIn('new EventSource("live")', page)

    def test_events_are_totals_that_rise_and_a_drain_ends_them(self):
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            stream = http.client.HTTPConnection(*server.address.rsplit(":", 1), timeout=60)
            stream.request("GET", "/live")
            reply = stream.getresponse()
            self.assertEqual((reply.status, reply.headers["Content-Type"]), (200, "text/event-stream"))
            events = []
            while len(events) < 3:
                line = reply.readline()
                if line.startswith(b"data: "):
                    events.append(json.loads(line[6:]))
                    web.post("/rerank", {"query": "a", "texts": ["b", "c"]})
            self.assertEqual([e["pairs"] for e in events], [0, 2, 4])
            self.assertEqual(events[2]["done"] - events[0]["done"], 2)
            self.assertEqual(events[2]["pass_sequences"][-1], events[2]["passes"])
            self.assertEqual(sorted(events[2]["pass_tokens"]), events[2]["pass_tokens"])
            self.assertTrue(all(a["at_ns"] < b["at_ns"] for a, b in zip(events, events[1:])))
            self.assertEqual(events[0]["models"][0]["precision"], "fp32")
            web.connection.close()
            server.signal()
            self.assertEqual([x for x in reply.read().split(b"\n\n") if x.strip() and not x.strip().startswith(b"data: ")], [])
            stream.close()


class About(unittest.TestCase):
    def test_health_info_and_the_rest(self):
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            self.assertEqual(web.ask("GET", "/health")[0], 200)
            self.assertEqual(web.ask("HEAD", "/health")[0], 200)
            status, _, info = web.ask("GET", "/info")
            self.assertEqual(status, 200)
            self.assertIn("reranker", info["model_type"])
            self.assertEqual(info["models"][0]["precision_effective"], info["model_dtype"])
            self.assertGreater(info["models"][0]["weight_bytes"], 0)
            self.assertTrue(info["models"][0]["kernels"])
            self.assertEqual(web.ask("GET", "/rerank")[0], 405)
            with Http(server.address) as other:
                self.assertEqual(other.ask("GET", "/no/such/path")[0], 404)

    def test_metrics_are_prometheus_text_and_count(self):
        with Server("--model", model("cross-encoder")) as server, Http(server.address) as web:
            for _ in range(3):
                web.post("/rerank", {"query": "a", "texts": ["b", "c"]})
            status, headers, text = web.ask("GET", "/metrics")
            self.assertEqual(status, 200)
            self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
            families = {f.name: f for f in text_string_to_metric_families(text)}
            value = {(s.name, *s.labels.values()): s.value for f in families.values() for s in f.samples}
            self.assertEqual(value[("couplet_pairs_total",)], 6)
            self.assertEqual(value[("couplet_requests_total", "refused")], 0)
            self.assertGreaterEqual(value[("couplet_requests_total", "done")], 3)
            self.assertGreater(value[("process_resident_memory_bytes",)], 1e6)
            for name, f in families.items():
                self.assertTrue(f.documentation, name)
                if f.type != "histogram":
                    continue
                buckets = [s for s in f.samples if s.name.endswith("_bucket")]
                counts = [s.value for s in buckets]
                self.assertEqual(counts, sorted(counts), name)
                edges = [float(s.labels["le"]) for s in buckets]
                self.assertEqual(edges, sorted(set(edges)), name)
                self.assertEqual(counts[-1], value[(name + "_count",)], name)
            self.assertTrue(all(re.match(r"(couplet|process)_", name) for name in families))


if __name__ == "__main__":
    unittest.main(verbosity=2)
