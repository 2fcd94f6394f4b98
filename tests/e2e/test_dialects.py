#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`couplet load` against a stub of each server it speaks to: what it sends is what the vendor's API takes (fields,
types, nothing unknown), what comes back is believed only when it is whole, and every way to fail is counted by kind.
Nothing here asserts a time."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
import unittest
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import PROGRAM

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields


def load(target, dialect, *args, expect=0):
    command = [PROGRAM, "load", "--target", target, "--dialect", dialect, "--json", "--lengths", "12-40"]
    command += ["--requests", "30", "--warmup", "4", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=dict(os.environ, COUPLET_DATA=""))
    if done.returncode != expect:
        raise AssertionError(f"{done.returncode}: {done.stderr} {done.stdout}")
    return json.loads(done.stdout) if done.stdout else done.stderr


# ---- HTTP ------------------------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, status, text, headers=()):
        super().__init__(text)
        self.status, self.headers = status, headers


def fields(body, needed, optional=()):
    """The object has what it needs, of these types, and nothing that isn't in the API."""
    optional = dict(optional)
    for name, kind in needed.items():
        if not isinstance(body.get(name), kind):
            raise Refused(422, f"{name} must be {kind}")
    for name in body:
        if name not in needed and not (name in optional and isinstance(body[name], optional[name])):
            raise Refused(422, f"unknown or wrong field {name}")


def texts(values):
    if not values or not all(isinstance(v, str) and v for v in values):
        raise Refused(422, "a list of texts")
    return values


def score(query, document):
    return (len(query) * 31 + len(document)) % 97 / 97


def tei(body):
    fields(body, {"query": str, "texts": list}, {"truncate": bool, "raw_scores": bool, "return_text": bool})
    ranks = [{"index": i, "score": score(body["query"], t)} for i, t in enumerate(texts(body["texts"]))]
    return sorted(ranks, key=lambda r: -r["score"])


def results(body):
    ranks = [
        {"index": i, "relevance_score": score(body["query"], t)} for i, t in enumerate(texts(body["documents"]))
    ]
    return sorted(ranks, key=lambda r: -r["relevance_score"])


def cohere(body):
    fields(body, {"model": str, "query": str, "documents": list}, {"top_n": int, "max_tokens_per_doc": int})
    return {"id": "x", "results": results(body), "meta": {"api_version": {"version": "2"}}}


def jina(body):
    fields(body, {"model": str, "query": str, "documents": list}, {"top_n": int, "return_documents": bool})
    return {"model": body["model"], "usage": {"total_tokens": 3, "prompt_tokens": 3}, "results": results(body)}


def infinity(body):
    options = {"top_n": int, "return_documents": bool, "raw_scores": bool}
    fields(body, {"model": str, "query": str, "documents": list}, options)
    return {"object": "rerank", "results": results(body), "model": body["model"], "usage": {}, "id": "i", "created": 1}


def openai(body):
    fields(body, {"model": str, "input": list}, {"encoding_format": str, "dimensions": int, "user": str})
    if body.get("encoding_format", "float") != "float":
        raise Refused(422, "encoding_format")
    data = [
        {"object": "embedding", "index": i, "embedding": [len(t) / 7, -1.5e-3, 0, 1]}
        for i, t in enumerate(texts(body["input"]))
    ]
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def vllm(body):
    fields(body, {"model": str, "text_1": (str, list), "text_2": list}, {"truncate_prompt_tokens": int})
    documents, queries = texts(body["text_2"]), body["text_1"]
    if isinstance(queries, str):
        queries = [queries] * len(documents)
    if len(texts(queries)) != len(documents):
        raise Refused(400, "lists of different lengths")
    data = [{"index": i, "object": "score", "score": score(q, d)} for i, (q, d) in enumerate(zip(queries, documents))]
    return {"id": "s", "object": "list", "created": 1, "model": body["model"], "data": data, "usage": {}}


def oip(body):
    fields(body, {"inputs": list}, {"id": str, "parameters": dict, "outputs": list})
    tensors = {}
    for tensor in body["inputs"]:
        fields(tensor, {"name": str, "shape": list, "datatype": str, "data": list})
        if tensor["datatype"] != "BYTES" or tensor["shape"] != [len(tensor["data"]), 1]:
            raise Refused(400, "tensor")
        tensors[tensor["name"]] = texts(tensor["data"])
    if sorted(tensors) != ["DOCUMENT", "QUERY"] or len(tensors["QUERY"]) != len(tensors["DOCUMENT"]):
        raise Refused(400, "tensors")
    scores = [[score(q, d)] for q, d in zip(tensors["QUERY"], tensors["DOCUMENT"])]
    output = {"name": "SCORE", "shape": [len(scores), 1], "datatype": "FP32", "data": scores}
    other = {"name": "OTHER", "shape": [1], "datatype": "FP32", "data": [1.0]}
    return {"model_name": "m", "model_version": "1", "id": "", "outputs": [other, output]}


HTTP = {
    "tei": ("/rerank", tei, True),
    "cohere": ("/v2/rerank", cohere, True),
    "jina": ("/v1/rerank", jina, True),
    "infinity": ("/rerank", infinity, True),
    "openai": ("/v1/embeddings", openai, False),
    "vllm": ("/score", vllm, False),
    "oip": ("/v2/models/some/model-1/infer", oip, False),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _reply(self, status, text, headers=()):
        data = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not self.server.chunked:
            self.wfile.write(data)
            return
        for at in range(0, len(data), 7):
            piece = data[at : at + 7]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.count += 1
            number = self.server.count
            self.server.headers_seen.append(dict(self.headers.items()))
            self.server.sizes.add(len(body))
        try:
            if self.path != self.server.path:
                raise Refused(404, f"no {self.path}")
            if self.headers["Content-Type"] != "application/json" or not self.headers["Host"]:
                raise Refused(415, "headers")
            reply = self.server.answer(json.loads(body))
            if self.server.spoil:
                self.server.spoil(self, number, reply)
            else:
                self._reply(200, json.dumps(reply))
        except Refused as e:
            self._reply(e.status, json.dumps({"error": str(e)}), e.headers)


class Stub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, dialect, spoil=None, chunked=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.path, self.answer, self.one_query = HTTP[dialect]
        self.spoil, self.chunked = spoil, chunked
        self.lock, self.count, self.headers_seen, self.sizes = threading.Lock(), 0, [], set()
        self.target = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the generator ends its connections when it has what it wants

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class HttpDialects(unittest.TestCase):
    def test_every_dialect(self):
        for dialect, (_, _, one_query) in HTTP.items():
            for extra in ([], ["--pairs-per-request", "5", "--concurrency", "3"], ["--scenario", "constant"]):
                with self.subTest(dialect=dialect, extra=extra), Stub(dialect) as stub:
                    if "--scenario" in extra:
                        extra = extra + ["--rate", "500"]
                    r = load(stub.target, dialect, "--model", "some/model-1", *extra)
                    self.assertEqual((r["failed"], r["requests"], r["errors"]), (0, 30, []))
                    self.assertGreaterEqual(stub.count, 34)
                    self.assertGreater(len(stub.sizes), 10)  # not one request over and over

    def test_shared_query(self):
        for dialect in ("openai", "vllm", "tei"):
            with self.subTest(dialect=dialect), Stub(dialect) as stub:
                r = load(
                    stub.target, dialect, "--model", "m", "--pairs-per-request", "4", "--documents-per-query", "8"
                )
                self.assertEqual(r["failed"], 0)

    def test_mixed_queries_are_refused_where_the_api_has_one(self):
        text = load("127.0.0.1:1", "tei", "--pairs-per-request", "4", "--documents-per-query", "6", expect=2)
        self.assertIn("a request of dialect 'tei' has one query", text)

    def test_model_is_needed(self):
        for dialect in ("openai", "vllm", "oip", "oip-grpc"):
            self.assertIn("needs the model's name", load("127.0.0.1:1", dialect, expect=2))
        self.assertIn("doesn't fit", load("127.0.0.1:1", "oip", "--model", "a b", expect=2))

    def test_headers_and_path(self):
        with Stub("tei") as stub:
            stub.path = "/prefix/rerank"
            r = load(stub.target, "tei", "--path", "/prefix/rerank", "--header", "Authorization: Bearer x: y")
            self.assertEqual(r["failed"], 0)
            self.assertEqual({h["authorization"] for h in stub.headers_seen}, {"Bearer x: y"})

    def test_chunked_replies(self):
        with Stub("tei", chunked=True) as stub:
            self.assertEqual(load(stub.target, "tei", "--pairs-per-request", "3")["failed"], 0)


class HttpFailures(unittest.TestCase):
    """Every tenth reply is wrong in one way; the others must not suffer."""

    def kinds(self, spoil, *args, dialect="tei"):
        def some(handler, number, reply):
            if number % 10:
                handler._reply(200, json.dumps(reply))
            else:
                spoil(handler, reply)

        with Stub(dialect, some) as stub:
            r = load(stub.target, dialect, "--requests", "100", "--pairs-per-request", "2", *args)
            self.assertGreaterEqual(r["failed"], 9)
            self.assertLessEqual(r["failed"], 11)
            self.assertEqual(r["requests"] + r["failed"], 100)
            self.assertFalse(r["valid"])
            self.assertEqual(len(r["errors"]), 1)
            return r["errors"][0]

    def test_statuses(self):
        for status in (400, 413, 422, 424, 429, 500, 503):
            e = self.kinds(lambda h, _, s=status: h._reply(s, '{"error": "no"}', [("Retry-After", "1")]))
            self.assertEqual(e["code"], f"HTTP {status}")
            self.assertIn('{"error": "no"}', e["first"])

    def test_replies_that_are_not_whole(self):
        wrong = [
            ("2 pairs", lambda r: r[:1]),
            ("twice", lambda r: [r[0], r[0]]),
            ("twice", lambda r: [dict(x, index=7) for x in r]),
            ("lacks", lambda r: [{"index": x["index"]} for x in r]),
            ("broken", lambda r: {"ranks": r}),
            ("broken", lambda r: [dict(x, score=float("nan")) for x in r]),
            ("broken", lambda r: [dict(x, score="1") for x in r]),
        ]
        for says, spoil in wrong:
            e = self.kinds(lambda h, r, s=spoil: h._reply(200, json.dumps(s(r))))
            self.assertEqual(e["code"], "DATA_LOSS")
            self.assertIn(says, e["first"])

    def test_not_json(self):
        self.assertEqual(self.kinds(lambda h, r: h._reply(200, "<html>"))["code"], "DATA_LOSS")
        self.assertEqual(self.kinds(lambda h, r: h._reply(200, json.dumps(r)[:-1]))["code"], "DATA_LOSS")

    def test_not_http(self):
        def spoil(handler, _):
            handler.wfile.write(b"SSH-2.0-x\r\n\r\n")
            handler.close_connection = True

        e = self.kinds(spoil)
        self.assertEqual(e["code"], "UNAVAILABLE")
        self.assertIn("not HTTP/1.1", e["first"])

    def test_closed_without_a_reply(self):
        def spoil(handler, _):
            handler.close_connection = True

        e = self.kinds(spoil)
        self.assertEqual(e["code"], "UNAVAILABLE")
        self.assertIn("connection lost", e["first"])

    def test_no_reply_in_time(self):
        def spoil(handler, _):
            time.sleep(1.2)
            handler.close_connection = True

        self.assertEqual(self.kinds(spoil, "--timeout", "0.4", "--concurrency", "8")["code"], "DEADLINE_EXCEEDED")

    def test_close_after_each_reply_is_no_failure(self):
        def spoil(handler, _, reply):
            handler.close_connection = True
            handler._reply(200, json.dumps(reply), [("Connection", "close")])

        with Stub("tei", spoil) as stub:
            self.assertEqual(load(stub.target, "tei", "--concurrency", "4")["failed"], 0)


# ---- gRPC ------------------------------------------------------------------------------------------------------------


def declare(package, messages):
    """Message classes from {name: [(number, field, type, repeated)]}; a type that is a message's name is that."""
    kinds = {"string": 9, "bytes": 12, "uint32": 13, "int64": 3, "bool": 8, "float": 2}
    file = descriptor_pb2.FileDescriptorProto(name=f"stub/{package}.proto", package=package, syntax="proto3")
    for name, members in messages.items():
        m = file.message_type.add(name=name)
        for number, field, kind, repeated in members:
            f = m.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in kinds:
                f.type = kinds[kind]
            else:
                f.type, f.type_name = 11, f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {m: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{m}")) for m in messages}


TEI = declare(
    "tei.v1",
    {
        "RerankRequest": [
            (1, "query", "string", False),
            (2, "texts", "string", True),
            (3, "truncate", "bool", False),
            (4, "raw_scores", "bool", False),
            (5, "return_text", "bool", False),
        ],
        "Rank": [(1, "index", "uint32", False), (2, "text", "string", False), (3, "score", "float", False)],
        "RerankResponse": [(1, "ranks", "Rank", True)],
    },
)
OIP = declare(
    "inference",
    {
        "Contents": [(6, "fp32_contents", "float", True), (8, "bytes_contents", "bytes", True)],
        "Tensor": [
            (1, "name", "string", False),
            (2, "datatype", "string", False),
            (3, "shape", "int64", True),
            (5, "contents", "Contents", False),
        ],
        "ModelInferRequest": [
            (1, "model_name", "string", False),
            (5, "inputs", "Tensor", True),
            (7, "raw_input_contents", "bytes", True),
        ],
        "ModelInferResponse": [
            (1, "model_name", "string", False),
            (5, "outputs", "Tensor", True),
            (6, "raw_output_contents", "bytes", True),
        ],
    },
)


def grpc_tei(request, context):
    if len(unknown_fields.UnknownFieldSet(request)):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unknown fields")
    if not request.query or not request.texts or not all(request.texts) or not request.truncate:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "empty")
    ranks = [TEI["Rank"](index=i, score=score(request.query, t)) for i, t in enumerate(request.texts)]
    return TEI["RerankResponse"](ranks=sorted(ranks, key=lambda r: -r.score))


def grpc_oip(raw):
    def answer(request, context):
        tensors = {t.name: t for t in request.inputs}
        if sorted(tensors) != ["DOCUMENT", "QUERY"] or request.model_name != "some/model-1":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "tensors")
        if len(unknown_fields.UnknownFieldSet(request)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unknown fields")
        n = len(tensors["QUERY"].contents.bytes_contents)
        for t in tensors.values():
            if t.datatype != "BYTES" or list(t.shape) != [n, 1] or len(t.contents.bytes_contents) != n:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "shape")
        scores = [0.25] * n
        out = OIP["Tensor"](name="SCORE", datatype="FP32", shape=[n, 1])
        reply = OIP["ModelInferResponse"](model_name="m", outputs=[out])
        if raw:
            reply.raw_output_contents.append(struct.pack(f"<{n}f", *scores))
        else:
            reply.outputs[0].contents.fp32_contents.extend(scores)
        return reply

    return answer


class GrpcStub:
    def __init__(self, service, method, request, answer):
        handler = grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None)


class GrpcDialects(unittest.TestCase):
    def test_tei(self):
        with GrpcStub("tei.v1.Rerank", "Rerank", TEI["RerankRequest"], grpc_tei) as stub:
            for n in ("1", "6"):
                r = load(stub.target, "tei-grpc", "--pairs-per-request", n, "--concurrency", "4")
                self.assertEqual((r["failed"], r["requests"]), (0, 30))

    def test_oip(self):
        for raw in (False, True):
            request = OIP["ModelInferRequest"]
            with GrpcStub("inference.GRPCInferenceService", "ModelInfer", request, grpc_oip(raw)) as stub:
                for n in ("1", "6"):
                    r = load(stub.target, "oip-grpc", "--model", "some/model-1", "--pairs-per-request", n)
                    self.assertEqual((r["failed"], r["requests"]), (0, 30))

    def test_too_few_scores(self):
        def short(request, context):
            reply = grpc_tei(request, context)
            del reply.ranks[0]
            return reply

        with GrpcStub("tei.v1.Rerank", "Rerank", TEI["RerankRequest"], short) as stub:
            r = load(stub.target, "tei-grpc", "--pairs-per-request", "3", expect=1)
            self.assertEqual([e["code"] for e in r["errors"]], ["DATA_LOSS"])
            self.assertIn("2 scores for 3 pairs", r["errors"][0]["first"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
