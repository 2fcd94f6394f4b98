#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real server and stock Python clients: grpcio, its health and reflection packages.
Nothing here asserts a time; waits are only upper bounds after which something hangs."""

import math
import os
import random
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Client, Server, code_and_details, cross_encoder, golden, grpc, model, raw_call, raw_frame, request

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

Code = grpc.StatusCode


def slow(milliseconds, *args, **kwargs):
    """A server whose every pass takes a while: for deadlines, cancellation, full queues, drains."""
    return cross_encoder("--backend", "fake", "--threads", "1", "--set", f"model.fake.fixed_us={milliseconds * 1000}",
                         *args, **kwargs)


def until(condition, seconds=60):
    """Waits for something that must come true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.005)


def varint(n):
    out = b""
    while True:
        out += bytes([n & 0x7F | (0x80 if n > 0x7F else 0)])
        n >>= 7
        if not n:
            return out


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


class Scores(unittest.TestCase):
    def test_are_the_golden_ones(self):
        cases = golden("cross-encoder")
        pairs = [(c["query"], c["document"]) for c in cases]
        with cross_encoder() as server, Client(server.address) as client:
            reply, call = client.infer.with_call(request(pairs))
            for got, case in zip(reply.scores, cases, strict=True):
                self.assertAlmostEqual(got, case["final"][0], delta=1e-5)
            self.assertEqual(reply.num_pairs, len(pairs))
            self.assertEqual(reply.status_code, 200)
            self.assertGreater(reply.latency_ms, 0)
            self.assertIn(("x-score-activation", "sigmoid"), [tuple(m) for m in call.initial_metadata()])
            raw, call = client.infer.with_call(request(pairs), metadata=[("x-raw-scores", "1")])
            for got, case in zip(raw.scores, cases, strict=True):
                self.assertAlmostEqual(got, case["row"][0], delta=1e-4)
            self.assertIn(("x-score-activation", "identity"), [tuple(m) for m in call.initial_metadata()])
            same = client.infer(request(pairs), metadata=[("x-raw-scores", "0")])
            self.assertEqual(list(same.scores), list(reply.scores))

    def test_of_an_embedder_are_cosines(self):
        cases = golden("embedder-mean")
        pairs = [(a["text"], b["text"]) for a in cases for b in cases]

        def cosine(a, b):
            norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
            return sum(x * y for x, y in zip(a, b)) / norm

        with Server("--model", model("embedder-mean")) as server, Client(server.address) as client:
            reply, call = client.infer.with_call(request(pairs))
            expected = [cosine(a["final"], b["final"]) for a in cases for b in cases]
            for got, want in zip(reply.scores, expected, strict=True):
                self.assertAlmostEqual(got, want, delta=1e-5)
            self.assertIn(("x-score-activation", "cosine"), [tuple(m) for m in call.initial_metadata()])

    def test_do_not_depend_on_company(self):
        """64 clients at once, requests of many sizes: each score has the bits it has alone."""
        rng = random.Random(20261122)
        words = "how tall is mount everest river long deep rain pair score the a query and it on".split()
        pool = [(" ".join(rng.choices(words, k=rng.randint(0, 12))), " ".join(rng.choices(words, k=rng.randint(0, 60))))
                for _ in range(200)]
        with cross_encoder("--set", "net_threads=2", "--threads", "2") as server:
            with Client(server.address) as client:
                alone = [client.score([p]).scores[0] for p in pool]
            failures = []

            def run(seed):
                mine = random.Random(seed)
                with Client(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as client:
                    for _ in range(6):
                        chosen = [mine.randrange(len(pool)) for _ in range(mine.choice((1, 1, 2, 7, 40)))]
                        got = list(client.score([pool[i] for i in chosen]).scores)
                        if got != [alone[i] for i in chosen]:
                            failures.append((seed, chosen))

            threads = [threading.Thread(target=run, args=(seed,)) for seed in range(64)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(timeout=300)
            self.assertEqual(failures, [])
            with Client(server.address) as client:
                metrics = client.metrics()
                self.assertEqual(metrics.count, len(pool) + 64 * 6)
                stats = client.stats()
                self.assertEqual(stats.tasks_done, stats.tasks_accepted)

    def test_of_several_labels_need_a_choice(self):
        case = next(c for c in golden("cross-encoder-3-labels"))
        pair = [(case["query"], case["document"])]
        three = model("cross-encoder-3-labels")
        with Server("--model", three) as server, Client(server.address) as client:
            code, details = code_and_details(client.score, pair)
            self.assertEqual(code, Code.FAILED_PRECONDITION)
            self.assertIn("model.score_label", details)
            self.assertIn("3 labels", details)
        for label, index in (("1", 1), ("neutral", 2)):
            with Server("--model", three, "--set", f"model.score_label={label}") as server:
                with Client(server.address) as client:
                    self.assertAlmostEqual(client.score(pair).scores[0], case["final"][index], delta=1e-4)

    def test_every_text_is_text(self):
        with cross_encoder() as server, Client(server.address) as client:
            odd = ["", " ", "\0", "a\0b", "\ufeff", "\u202e", "\U0010ffff", "é" * 500, "漢字", "[SEP] [CLS] [PAD]", "\n\t\r"]
            reply = client.score([(q, d) for q in odd for d in odd])
            self.assertEqual(len(reply.scores), len(odd) ** 2)
            self.assertTrue(all(0 <= s <= 1 for s in reply.scores))

    def test_model_by_name(self):
        with cross_encoder() as server, Client(server.address) as client:
            pair = [("a", "b")]
            plain = client.score(pair).scores
            for name in "cross-encoder", "some-org/cross-encoder":
                self.assertEqual(client.score(pair, metadata=[("model", name)]).scores, plain)
            code, details = code_and_details(client.score, pair, metadata=[("model", "another")])
            self.assertEqual(code, Code.NOT_FOUND)
            self.assertIn("another", details)
            self.assertIn("cross-encoder", details)


class BadRequests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cross_encoder("--set", "server.limits.max_pairs=50", "--set", "server.limits.max_text_bytes=2000",
                                   "--set", "server.limits.message_bytes=20000")
        cls.client = Client(cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.client.channel.close()
        assert cls.server.stop() == 0, cls.server.stderr()

    def tearDown(self):
        self.assertEqual(len(self.client.score([("still", "alive")]).scores), 1)

    def expect(self, data, *parts, code=Code.INVALID_ARGUMENT):
        got, details = code_and_details(self.client.infer_bytes, data, timeout=60)
        self.assertEqual(got, code, details)
        for part in parts:
            self.assertIn(part, details)

    def test_no_pairs(self):
        self.expect(b"", "no pairs")

    def test_too_many_pairs(self):
        self.expect(field(1, b"") * 51, "51 pairs", "limit is 50", "server.limits.max_pairs")

    def test_text_over_the_limit(self):
        self.expect(request([("a", "b"), ("c", "d" * 2001)]).SerializeToString(), "pairs[1].document", "2001 bytes",
                    "limit is 2000")

    def test_invalid_utf8(self):
        good = field(1, field(1, b"q") + field(2, b"d"))
        self.expect(good * 3 + field(1, field(1, b"ab\xff") + field(2, b"d")), "pairs[3].query", "UTF-8 at byte 2")
        self.expect(good + field(1, field(1, b"q") + field(2, b"\xc3\xa9\xed\xa0\x80")), "pairs[1].document", "byte 2")

    def test_truncated(self):
        whole = request([("query", "document")] * 3).SerializeToString()
        for n in range(1, len(whole)):
            if n % (len(whole) // 3):
                self.expect(whole[:n], "truncated")
        self.expect(field(1, field(1, b"query")[:-1]), "pairs[0] is truncated")

    def test_wrong_message(self):
        self.expect(b"\x08\x05", "field 1 (pairs)", "InferRequest")
        self.expect(field(1, b"\x08\x05"), "pairs[0].query", "wire type 0")
        self.expect(b"GET / HTTP/1.1\r\n\r\n")
        self.expect(b"\xff" * 50, "truncated")

    def test_random_bytes_never_kill(self):
        rng = random.Random(4711)
        for _ in range(300):
            data = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
            try:
                self.client.infer_bytes(data, timeout=60)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), Code.INVALID_ARGUMENT, data.hex())

    def test_oversize(self):
        self.expect(request([("q", "d" * 1500)] * 20).SerializeToString(), code=Code.RESOURCE_EXHAUSTED)

    def test_gzip_bomb(self):
        with Client(self.server.address, compression=grpc.Compression.Gzip) as client:
            code, _ = code_and_details(client.infer_bytes, b"\0" * 50_000_000, timeout=60)
            self.assertEqual(code, Code.RESOURCE_EXHAUSTED)

    def test_gzip_and_deflate(self):
        pairs = [("how tall is it", "it is tall " * 50)] * 20
        plain = list(self.client.score(pairs).scores)
        for compression in grpc.Compression.Gzip, grpc.Compression.Deflate:
            with Client(self.server.address, compression=compression) as client:
                try:
                    self.assertEqual(list(client.score(pairs).scores), plain)
                except grpc.RpcError as error:  # deflate may be refused, but then by name
                    self.assertNotEqual(compression, grpc.Compression.Gzip)
                    self.assertEqual(error.code(), Code.UNIMPLEMENTED)

    def test_metadata(self):
        code, details = code_and_details(self.client.score, [("a", "b")], metadata=[("x-raw-scores", "maybe")])
        self.assertEqual(code, Code.INVALID_ARGUMENT)
        self.assertIn("x-raw-scores", details)

    def test_headers_over_the_limit(self):
        code, _ = code_and_details(self.client.score, [("a", "b")], metadata=[("x-long", "y" * 60000)])
        self.assertIn(code, (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.UNKNOWN, Code.INTERNAL))

    def test_unknown_methods(self):
        for path in "/inference.InferenceService/Nothing", "/nobody/Here", "/":
            call = self.client.channel.unary_unary(path)
            self.assertEqual(code_and_details(call, b"", timeout=60)[0], Code.UNIMPLEMENTED)


class Time(unittest.TestCase):
    def test_deadline(self):
        with slow(400) as server, Client(server.address) as client:
            code, _ = code_and_details(client.infer, request([("a", "b")]), timeout=0.1)
            self.assertEqual(code, Code.DEADLINE_EXCEEDED)
            self.assertEqual(len(client.score([("a", "b")]).scores), 1)

    def test_deadline_in_the_queue(self):
        """What expires while it waits is never run."""
        with slow(300, "--set", "batching.policy=off") as server, Client(server.address) as client:
            first = client.infer.future(request([("first", "one")]), timeout=60)
            until(lambda: client.stats().tasks_accepted >= 1)
            before = client.stats().tasks_accepted
            waiting = [client.infer.future(request([("late", str(i))]), timeout=0.15) for i in range(10)]
            for call in waiting:
                self.assertEqual(call.code(), Code.DEADLINE_EXCEEDED)
            self.assertEqual(len(first.result().scores), 1)
            until(lambda: client.stats().tasks_done + client.stats().tasks_expired + client.stats().tasks_cancelled
                  >= before)
            self.assertLess(client.stats().passes, 8)

    def test_cancel(self):
        with slow(1000, "--set", "batching.policy=off") as server, Client(server.address) as client:
            calls = [client.infer.future(request([("a", str(i))] * 3), timeout=60) for i in range(20)]
            until(lambda: client.stats().tasks_accepted >= 20)
            for call in calls[1:]:
                call.cancel()
            self.assertEqual(len(calls[0].result().scores), 3)
            until(lambda: client.stats().tasks_cancelled >= 10)
            self.assertEqual(len(client.score([("a", "b")]).scores), 1)

    def test_connection_lost_with_work_in_flight(self):
        with slow(1000, "--set", "batching.policy=off") as server:
            client = Client(server.address)
            kept = [client.infer.future(request([("a", str(i))]), timeout=60) for i in range(10)]
            with Client(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
                until(lambda: other.stats().tasks_accepted >= 10)
                client.channel.close()
                self.assertTrue(all(call.code() == Code.CANCELLED for call in kept[5:]))
                self.assertEqual(len(other.score([("a", "b")]).scores), 1)
                until(lambda: other.stats().tasks_cancelled >= 5)

    def test_queue_full(self):
        with slow(200, "--set", "server.limits.queue_requests=4", "--set", "batching.policy=off") as server:
            with Client(server.address) as client:
                calls = [client.infer.future(request([("a", str(i))]), timeout=60) for i in range(40)]
                codes = [call.code() for call in calls]
                self.assertIn(Code.OK, codes)
                self.assertIn(Code.RESOURCE_EXHAUSTED, codes)
                self.assertEqual(set(codes), {Code.OK, Code.RESOURCE_EXHAUSTED})

    def test_a_failing_backend_is_an_internal_error(self):
        with cross_encoder("--backend", "fake", "--set", "model.fake.fail_every=2") as server:
            with Client(server.address) as client:
                codes = set()
                for _ in range(6):
                    try:
                        client.score([("a", "b")])
                        codes.add(Code.OK)
                    except grpc.RpcError as error:
                        codes.add(error.code())
                self.assertEqual(codes, {Code.OK, Code.INTERNAL})


class Drain(unittest.TestCase):
    def test_no_request_is_lost(self):
        """SIGTERM under load: whatever was in flight is answered; what comes later is told UNAVAILABLE."""
        with slow(15, "--set", "net_threads=2") as server:
            outcomes, stop, lock = [], threading.Event(), threading.Lock()

            def run(seed):
                with Client(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as client:
                    while not stop.is_set():
                        try:
                            got = "ok" if len(client.score([("a", str(seed))] * 3).scores) == 3 else "short"
                        except grpc.RpcError as error:
                            got = f"{error.code().name} {error.details()}"
                        with lock:
                            outcomes.append(got)
                        if got != "ok":
                            return

            threads = [threading.Thread(target=run, args=(seed,)) for seed in range(24)]
            for t in threads:
                t.start()
            until(lambda: len(outcomes) > 100)
            server.signal()
            status = server.wait()
            stop.set()
            for t in threads:
                t.join(timeout=120)
            self.assertEqual(status, 0, server.stderr())
            self.assertIn("every request in flight was answered", server.stderr())
            lost = [o for o in outcomes if o != "ok" and not o.startswith("UNAVAILABLE")]
            self.assertEqual(lost, [])
            # Refused before it was sent, or told so; never cut off in the middle.
            cut = [o for o in outcomes if "reset" in o.lower() or "RST_STREAM" in o]
            self.assertEqual(cut, [])

    def test_what_is_in_flight_is_answered(self):
        with slow(300, "--set", "batching.policy=off") as server, Client(server.address) as client:
            calls = [client.infer.future(request([("a", str(i))]), timeout=60) for i in range(5)]
            until(lambda: client.stats().tasks_accepted >= 5)
            server.signal()
            for call in calls:
                self.assertEqual(len(call.result().scores), 1)
            self.assertEqual(server.wait(), 0)

    def test_the_grace_ends(self):
        with slow(1000, "--set", "server.limits.drain_ms=100", "--set", "batching.policy=off") as server:
            with Client(server.address) as client:
                calls = [client.infer.future(request([("a", str(i))]), timeout=60) for i in range(5)]
                until(lambda: client.stats().tasks_accepted >= 5)
                server.signal()
                for call in calls:
                    self.assertNotEqual(call.code(), None)
                self.assertEqual(server.wait(), 0)
                self.assertRegex(server.stderr(), r"\d+ requests were cut off")

    def test_a_stream_that_begins_during_the_drain_ends_with_it(self):
        import socket

        with slow(2000) as server, Client(server.address) as client:
            host, port = server.address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=60) as s, s.makefile("rb") as replies:
                s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw_frame(4, 0, 0))
                s.sendall(raw_call(1, "/inference.InferenceService/Infer", request([("a", "b")]).SerializeToString(), 1))
                until(lambda: client.stats().tasks_accepted >= 2)  # the canary was one
                server.signal()
                while True:  # to the first GOAWAY; its PING is never answered, so streams may still come for a second
                    head = replies.read(9)
                    replies.read(int.from_bytes(head[:3], "big"))
                    if head[3] == 7:
                        break
                s.sendall(raw_call(3, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\0", 0))
                self.assertEqual(server.wait(), 0)
            self.assertIn("every request in flight was answered", server.stderr())

    def test_idle_server_stops(self):
        for number in (15, 2):
            server = cross_encoder()
            with Client(server.address) as client:
                client.score([("a", "b")])
                self.assertEqual(server.stop(number), 0)


class Health(unittest.TestCase):
    def test_check_and_list(self):
        with cross_encoder() as server, Client(server.address) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            for name in "", "inference.InferenceService":
                reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
                self.assertEqual(reply.status, health_pb2.HealthCheckResponse.SERVING)
            code, _ = code_and_details(stub.Check, health_pb2.HealthCheckRequest(service="nobody"), timeout=60)
            self.assertEqual(code, Code.NOT_FOUND)
            listing = harness.message("grpc.health.v1.HealthListResponse")
            call = client.channel.unary_unary("/grpc.health.v1.Health/List", response_deserializer=listing.FromString)
            statuses = call(b"", timeout=60).statuses
            self.assertEqual(statuses[""].status, 1)
            self.assertEqual(statuses["inference.InferenceService"].status, 1)

    def test_a_lost_device(self):
        """One model of two loses its device: it is refused and the other serves on; with the last one health turns."""
        config = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        one = "{name: %s, path: " + model("cross-encoder") + ", backend: fake, fake: {lose_after: %d}}"
        config.write("models: [%s, %s]\n" % (one % ("first", 3), one % ("second", 30)))
        config.flush()
        with config, Server("--config", config.name, "--threads", "1") as server, Client(server.address) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            ask = lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)

            def use_up(name):
                for _ in range(40):
                    try:
                        client.infer(request([("a", "b")]), metadata=[("model", name)], timeout=60)
                    except grpc.RpcError as e:
                        self.assertEqual(e.code(), Code.UNAVAILABLE)
                        self.assertIn("device lost", e.details())
                        return
                self.fail("never lost")

            use_up("first")
            self.assertEqual(ask(), health_pb2.HealthCheckResponse.SERVING)
            client.infer(request([("a", "b")]), metadata=[("model", "second")], timeout=60)
            use_up("second")
            self.assertEqual(ask(), health_pb2.HealthCheckResponse.NOT_SERVING)
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)

    def test_watch(self):
        server = slow(300, "--set", "batching.policy=off")
        with Client(server.address) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            known = stub.Watch(health_pb2.HealthCheckRequest(service="inference.InferenceService"))
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"))
            gone = stub.Watch(health_pb2.HealthCheckRequest())
            self.assertEqual(next(known).status, health_pb2.HealthCheckResponse.SERVING)
            self.assertEqual(next(unknown).status, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            self.assertEqual(next(gone).status, health_pb2.HealthCheckResponse.SERVING)
            gone.cancel()
            busy = client.infer.future(request([("a", "b")]), timeout=60)
            until(lambda: client.stats().tasks_accepted >= 1)
            server.signal()
            self.assertEqual(next(known).status, health_pb2.HealthCheckResponse.NOT_SERVING)
            for call in known, unknown:
                with self.assertRaises(grpc.RpcError) as ended:
                    next(call)
                self.assertEqual(ended.exception.code(), Code.UNAVAILABLE)
            self.assertEqual(len(busy.result().scores), 1)
            self.assertEqual(server.wait(), 0)


class Reflection(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cross_encoder()
        cls.client = Client(cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.client.channel.close()
        assert cls.server.stop() == 0, cls.server.stderr()

    def ask(self, version, **question):
        request_class = harness.message(f"grpc.reflection.{version}.ServerReflectionRequest")
        reply_class = harness.message(f"grpc.reflection.{version}.ServerReflectionResponse")
        call = self.client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=request_class.SerializeToString, response_deserializer=reply_class.FromString)
        if "file_containing_extension" in question:
            asked = request_class(host="h")
            asked.file_containing_extension.containing_type = question["file_containing_extension"]
        else:
            asked = request_class(host="h", **question)
        replies = list(call(iter([asked, asked]), timeout=60))
        self.assertEqual(len(replies), 2)
        for reply in replies:
            self.assertEqual(reply.valid_host, "h")
            self.assertEqual(reply.original_request, asked)
        return replies[0]

    def test_both_versions(self):
        for version in "v1", "v1alpha":
            services = [s.name for s in self.ask(version, list_services="").list_services_response.service]
            self.assertEqual(sorted(services), ["couplet.v1.Models", "couplet.v1.Stats", "grpc.health.v1.Health",
                                                "grpc.reflection.v1.ServerReflection",
                                                "grpc.reflection.v1alpha.ServerReflection",
                                                "inference.InferenceService"])
            for question in ({"file_by_filename": "inference.proto"},
                             {"file_containing_symbol": "inference.InferenceService.Infer"},
                             {"file_containing_symbol": "inference.Pair"}):
                files = self.ask(version, **question).file_descriptor_response.file_descriptor_proto
                parsed = [harness.descriptor_pb2.FileDescriptorProto.FromString(f) for f in files]
                self.assertEqual([f.name for f in parsed], ["inference.proto"])
                query = next(m for m in parsed[0].message_type if m.name == "Pair").field[0]
                self.assertEqual(query.type, query.TYPE_STRING)
            for question in ({"file_by_filename": "nothing.proto"}, {"file_containing_symbol": "inference.Nothing"},
                             {"file_containing_extension": "inference.Pair"},
                             {"all_extension_numbers_of_type": "nobody.Here"}):
                self.assertEqual(self.ask(version, **question).error_response.error_code, Code.NOT_FOUND.value[0])
            numbers = self.ask(version, all_extension_numbers_of_type="inference.Pair")
            self.assertEqual(numbers.all_extension_numbers_response.base_type_name, "inference.Pair")

    def test_the_stock_client_scores_through_it(self):
        database = ProtoReflectionDescriptorDatabase(self.client.channel)
        self.assertIn("inference.InferenceService", database.get_services())
        pool = harness.descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("inference.InferenceService")
        method = service.FindMethodByName("Infer")
        ask = harness.message_factory.GetMessageClass(method.input_type)()
        ask.pairs.add(query="a", document="b")
        answer = harness.message_factory.GetMessageClass(method.output_type)
        call = self.client.channel.unary_unary("/inference.InferenceService/Infer",
                                               response_deserializer=answer.FromString)
        self.assertEqual(len(call(ask.SerializeToString(), timeout=60).scores), 1)

    def test_standard_interfaces_are_the_standard_ones(self):
        """Field by field what the published Python packages carry."""
        for package, mine in ((health_pb2, "grpc/health/v1/health.proto"),
                              (reflection_pb2, "grpc/reflection/v1alpha/reflection.proto")):
            theirs = harness.descriptor_pb2.FileDescriptorProto()
            package.DESCRIPTOR.CopyToProto(theirs)
            ours = next(f for f in harness.descriptor_set().file if f.name == mine)
            shape = lambda f: {(m.name, x.name): (x.number, x.type, x.label) for m in f.message_type for x in m.field}
            for key, value in shape(theirs).items():
                if key[0] in {m.name for m in ours.message_type}:
                    self.assertEqual(shape(ours).get(key), value, key)
            self.assertEqual([s.name for s in ours.service], [s.name for s in theirs.service])

    def test_a_broken_question_ends_the_stream(self):
        call = self.client.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with self.assertRaises(grpc.RpcError) as ended:
            list(call(iter([b"\x0a\x05x"]), timeout=60))
        self.assertEqual(ended.exception.code(), Code.INVALID_ARGUMENT)


class Figures(unittest.TestCase):
    def test_metrics(self):
        with cross_encoder() as server, Client(server.address) as client:
            empty = client.metrics()
            self.assertEqual((empty.count, empty.query_count, empty.p50_ms), (0, 0, 0))
            latencies = [client.score([("a", "b")] * 3).latency_ms for _ in range(20)]
            code_and_details(client.infer, request([]))
            m = client.metrics()
            self.assertEqual((m.count, m.query_count), (20, 60))
            self.assertTrue(0 < m.p50_ms <= m.p95_ms <= m.p99_ms <= max(latencies) * 1.01)
            self.assertAlmostEqual(m.avg_ms, sum(latencies) / 20, delta=0.01 * max(latencies))
            self.assertGreater(m.throughput_qps, 0)

    def test_stats(self):
        with cross_encoder("--set", "net_threads=1") as server, Client(server.address) as client:
            client.score([("a", "b"), ("c", "d")])
            first = client.stats()
            client.score([("a", "b")] * 10)
            s = client.stats()
            self.assertEqual(s.pid, server.process.pid)
            self.assertEqual(s.net_threads, 1)
            self.assertEqual(s.sequences - first.sequences, 10)
            self.assertGreater(s.tokens, first.tokens)
            self.assertGreater(s.rss_bytes, 1 << 20)
            self.assertGreater(s.monotonic_ns, first.monotonic_ns)
            self.assertEqual(s.models[0].backend, "native")
            self.assertEqual(s.models[0].precision_effective, "fp32")
            self.assertIn("scores mean nothing", s.models[0].note)
            self.assertEqual(sum(s.pass_sequences.times), s.pass_sequences.count)
            self.assertEqual(len(s.pass_sequences.bucket), len(s.pass_sequences.times))
            self.assertIn("max_pairs: 1000", s.config)
            self.assertIn("# --listen", s.config)


class RealModel(unittest.TestCase):
    def test_ranks_sensibly(self):
        if not os.path.exists(os.path.join(harness.ROOT, "models", "all-MiniLM-L6-v2", "config.json")):
            self.skipTest("models/all-MiniLM-L6-v2 is not here (`make model` fetches it)")
        query = "how tall is mount everest"
        documents = ["Bananas are rich in potassium.", "Mount Everest rises 8,849 metres above sea level.",
                     "Everest was first climbed in 1953."]
        with Server("--model", "sentence-transformers/all-MiniLM-L6-v2") as server, Client(server.address) as client:
            scores = client.score([(query, d) for d in documents]).scores
            order = sorted(range(3), key=lambda i: -scores[i])
            self.assertEqual(order, [1, 2, 0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
