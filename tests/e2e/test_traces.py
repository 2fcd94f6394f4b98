#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real server: stage times in replies, W3C trace context, spans at a stub of an OpenTelemetry collector.
Nothing here asserts how long anything takes, only that parts add up."""

import http.server
import json
import os
import re
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Client, Server, code_and_details, grpc, model, request
from prometheus_client.parser import text_string_to_metric_families
from test_http import Http

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
STAGES = ["read", "tokenize", "queue", "compute", "reply", "total"]
BODY = {"query": "one", "texts": ["two", "three four"]}


def times(header):
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", header)}


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.01)


class Collector:
    """Takes spans; answers with the statuses given, then 200."""

    def __init__(self, *statuses, port=0):
        self.spans, self.requests = [], []
        waiting = list(statuses)
        me = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = waiting.pop(0) if waiting else 200
                me.requests.append((self.path, self.headers["Content-Type"], status))
                if status == 200:
                    for resource in body["resourceSpans"]:
                        for scope in resource["scopeSpans"]:
                            me.spans += scope["spans"]
                answer = b"{}"
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def roots(self):
        return [s for s in list(self.spans) if s["kind"] == 2]


def served(*args):
    return Server("--model", model("cross-encoder"), *args)


def exporting(collector, *args):
    return served("--set", f"server.otlp.endpoint=http://127.0.0.1:{collector.port}", "--set",
                  "server.otlp.interval_ms=10", *args)


class StageTimes(unittest.TestCase):
    def check(self, text):
        t = times(text)
        self.assertEqual(list(t), STAGES)
        self.assertAlmostEqual(sum(t[k] for k in STAGES[:-1]), t["total"], delta=0.004)
        self.assertGreater(t["compute"], 0)

    def test_are_given_when_asked_for(self):
        with served() as server, Client(server.address) as client, Http(server.address) as web:
            asked = {"Content-Type": "application/json", "x-couplet-timing": "1"}
            _, headers, _ = web.ask("POST", "/rerank", BODY, asked)
            self.check(headers["server-timing"])
            self.assertGreater(int(headers["x-couplet-tokens"]), 6)
            self.assertGreaterEqual(int(headers["x-couplet-passes"]), 1)
            _, headers, _ = web.post("/rerank", BODY)
            self.assertIsNone(headers["server-timing"])
            _, call = client.infer.with_call(request([("a", "b")]), metadata=[("x-couplet-timing", "1")], timeout=60)
            self.check(dict(call.trailing_metadata())["server-timing"])
            _, call = client.infer.with_call(request([("a", "b")]), timeout=60)
            self.assertNotIn("server-timing", dict(call.trailing_metadata()))

    def test_always_and_never(self):
        for setting, given in (("always", True), ("never", False)):
            with served("--set", "server.stage_times=" + setting) as server, Http(server.address) as web:
                asked = {"Content-Type": "application/json", "x-couplet-timing": "1"}
                for headers in ({"Content-Type": "application/json"}, asked):
                    self.assertEqual(web.ask("POST", "/rerank", BODY, headers)[1]["server-timing"] is not None, given)


class Traces(unittest.TestCase):
    def test_a_traceparent_is_taken_up_and_answered(self):
        with served() as server, Client(server.address) as client, Http(server.address) as web:
            _, headers, _ = web.ask("POST", "/rerank", BODY, {"traceparent": PARENT + "01"})
            answer = headers["traceresponse"].split("-")
            self.assertEqual([answer[0], answer[1], answer[3]], ["00", PARENT.split("-")[1], "01"])
            self.assertNotEqual(answer[2], PARENT.split("-")[2])
            _, call = client.infer.with_call(request([("a", "b")]), metadata=[("traceparent", PARENT + "00")], timeout=60)
            self.assertIn("traceresponse", dict(call.trailing_metadata()))
            for bad in ("nonsense", PARENT + "zz", PARENT[:-1]):
                _, headers, _ = web.ask("POST", "/rerank", BODY, {"traceparent": bad})
                self.assertIsNone(headers["traceresponse"])

    def test_spans_reach_a_collector(self):
        with Collector() as collector:
            with exporting(collector, "--set", "server.otlp.service=here") as server, Http(server.address) as web, \
                    Client(server.address) as client:
                _, headers, _ = web.ask("POST", "/rerank", BODY, {"traceparent": PARENT + "01"})
                client.score([("a", "b")] * 3)
                web.ask("POST", "/rerank", BODY, {"traceparent": PARENT + "00"})  # not sampled
                until(lambda: len(collector.roots()) == 2)
                answered = headers["traceresponse"].split("-")
            self.assertEqual(len(collector.roots()), 2)  # also after the server's end
            self.assertEqual(set(collector.requests), {("/v1/traces", "application/json", 200)})
            rerank, infer = collector.roots()
            self.assertEqual((rerank["name"], rerank["traceId"], rerank["parentSpanId"], rerank["spanId"]),
                             ("/rerank", PARENT.split("-")[1], PARENT.split("-")[2], answered[2]))
            self.assertEqual(infer["name"], "/inference.InferenceService/Infer")
            self.assertNotIn("parentSpanId", infer)
            values = {a["key"]: a["value"] for a in infer["attributes"]}
            self.assertEqual((values["couplet.items"]["intValue"], values["couplet.model"]["stringValue"]),
                             ("3", "cross-encoder"))
            for root in (rerank, infer):
                parts = [s for s in collector.spans if s.get("parentSpanId") == root["spanId"]]
                self.assertEqual([s["name"] for s in parts if s["name"] != "read"], STAGES[1:-1])
                self.assertEqual(len({s["spanId"] for s in parts}), len(parts))
                self.assertEqual(int(parts[-1]["endTimeUnixNano"]), int(root["endTimeUnixNano"]))
                self.assertLess(abs(int(root["endTimeUnixNano"]) / 1e9 - time.time()), 3600)

    def test_a_failed_request_is_a_failed_span(self):
        with Collector() as collector:
            with exporting(collector, "--backend", "fake", "--set", "model.fake.fail_every=2") as server, \
                    Client(server.address) as client:
                code_and_details(client.infer, request([("a", "b")]), timeout=60)  # the first pass was the canary's
                until(lambda: collector.roots())
            self.assertEqual(collector.roots()[0]["status"]["code"], 2)

    def test_what_does_not_get_through_is_sent_again_dropped_or_refused_and_counted(self):
        def counts(web):
            found = {}
            for family in text_string_to_metric_families(web.ask("GET", "/metrics")[2]):
                for s in family.samples:
                    if s.name == "couplet_traced_requests_total":
                        found[s.labels["outcome"]] = s.value
                    if s.name == "couplet_trace_export_failures_total":
                        found["failures"] = s.value
            return found

        with Collector(503, 429, 400) as collector:
            with exporting(collector, "--set", "server.otlp.batch=1") as server, Http(server.address) as web:
                for _ in range(3):
                    web.post("/rerank", BODY)
                until(lambda: counts(web)["sent"] == 2)
                self.assertEqual(counts(web), {"sent": 2, "dropped": 0, "refused": 1, "failures": 2})
                self.assertIn("spans can't be exported", server.stderr())
            self.assertEqual(len(collector.roots()), 2)
        with Collector() as gone:
            port = gone
        with exporting(port, "--set", "server.otlp.queue=16") as server, Http(server.address) as web:
            for _ in range(40):
                self.assertEqual(web.post("/rerank", BODY)[0], 200)
            self.assertEqual(counts(web)["dropped"], 24)

    def test_an_address_that_is_none_is_refused_at_start(self):
        with self.assertRaises(AssertionError) as failure:
            served("--set", "server.otlp.endpoint=collector:4318")
        self.assertIn("server.otlp.endpoint: 'collector:4318' is not a collector's address", str(failure.exception))


if __name__ == "__main__":
    unittest.main()
