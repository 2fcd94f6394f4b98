# SPDX-License-Identifier: Apache-2.0
"""A real `couplet serve` on a free port, and message classes made from the descriptors the build embeds."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
from signal import SIGKILL, SIGTERM

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("COUPLET_BUILD", os.path.join(ROOT, "build"))
PROGRAM = os.environ.get("COUPLET_PROGRAM", os.path.join(BUILD, "couplet"))
MODELS = os.path.join(ROOT, "tests", "golden", "models")

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    import grpc_health  # noqa: F401
    import grpc_reflection  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; tests/e2e/requirements.txt lists what these tests need", file=sys.stderr)
    sys.exit(77)


def model(name):
    return os.path.join(MODELS, name)


def golden(name):
    with open(os.path.join(ROOT, "tests", "golden", name + ".json")) as f:
        return [c for c in json.load(f)["cases"] if "final" in c]


def descriptor_set():
    with open(os.path.join(BUILD, "proto", "descriptors.pb"), "rb") as f:
        return descriptor_pb2.FileDescriptorSet.FromString(f.read())


_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_set().file:
    _pool.Add(_file)


def message(name):
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


InferRequest, InferResponse = message("inference.InferRequest"), message("inference.InferResponse")
MetricsResponse, Empty = message("inference.MetricsResponse"), message("inference.Empty")
StatsRequest, StatsReply = message("couplet.v1.StatsRequest"), message("couplet.v1.StatsReply")


class Server:
    """`couplet serve` with the given arguments; ready when constructed. `with` stops it by SIGTERM."""

    def __init__(self, *args, listen=("127.0.0.1:0",), environment=None, folder=ROOT, before=None):
        command = [PROGRAM, "serve", "--set", "pin_workers=false"]
        for address in listen:
            command += ["--listen", address]
        self.process = subprocess.Popen(
            command + list(args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(os.environ, **(environment or {})),
            preexec_fn=before,
        )
        self.errors = []
        self.lines = queue.Queue()
        self.readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        self.addresses = []
        for _ in listen:
            line = self.lines.get(timeout=120)
            match = re.fullmatch(r"listening on (\S+) \(grpc, http\)\n", line or "")
            if not match:
                self.stop(SIGKILL)
                raise AssertionError(f"the server doesn't listen: {line!r}\n{self.stderr()}")
            self.addresses.append(match.group(1))
        self.address = self.addresses[0]

    def _read_output(self):
        for line in self.process.stdout:
            self.lines.put(line.decode())
        self.lines.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.decode())

    def stderr(self):
        return "".join(self.errors)

    def signal(self, number=SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        status = self.process.wait(timeout=120)
        for reader in self.readers:
            reader.join(timeout=30)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def stop(self, number=SIGTERM):
        if self.process.poll() is None:
            self.signal(number)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status = self.stop()
        if kind is None and status != 0:
            raise AssertionError(f"the server ended with {status}\n{self.stderr()}")


class Client:
    """The couplet services over one grpcio channel."""

    def __init__(self, address, compression=None, options=()):
        self.channel = grpc.insecure_channel(address, compression=compression, options=list(options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def _unary(self, path, request, reply):
        return self.channel.unary_unary(path, request_serializer=request, response_deserializer=reply.FromString)

    @property
    def infer(self):
        return self._unary("/inference.InferenceService/Infer", InferRequest.SerializeToString, InferResponse)

    @property
    def infer_bytes(self):
        return self._unary("/inference.InferenceService/Infer", None, InferResponse)

    def metrics(self):
        return self._unary("/inference.InferenceService/GetMetrics", Empty.SerializeToString, MetricsResponse)(Empty())

    def stats(self):
        return self._unary("/couplet.v1.Stats/Get", StatsRequest.SerializeToString, StatsReply)(StatsRequest())

    def score(self, pairs, **kwargs):
        return self.infer(request(pairs), timeout=60, **kwargs)


def cross_encoder(*args, **kwargs):
    """A server of the tiny cross-encoder."""
    return Server("--model", model("cross-encoder"), *args, **kwargs)


def request(pairs):
    r = InferRequest()
    for query, document in pairs:
        r.pairs.add(query=query, document=document)
    return r


def code_and_details(call, *args, **kwargs):
    """What a call that must fail fails with."""
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def raw_frame(kind, flags, stream, data=b""):
    """An HTTP/2 frame, for what no client library would send."""
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def raw_call(stream, path, data, end):
    """A gRPC call's HEADERS and one message; end: END_STREAM."""
    fields = {":method": "POST", ":scheme": "http", ":authority": "t", ":path": path,
              "content-type": "application/grpc"}
    block = b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields.items())
    prefixed = b"\0" + len(data).to_bytes(4, "big") + data
    return raw_frame(1, 4, stream, block) + raw_frame(0, int(end), stream, prefixed)
