#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A plug-in of couplet against its own runtime used directly from Python: the same model, the same batches of token ids,
one thread each.

    tools/bench_runtimes.py --backend pytorch --precision fp32 --build build [--model DIR] [--shapes 16x17,16x128,ragged]
    tools/bench_runtimes.py --all --build build            # every plug-in and precision that is here, about five minutes

Two processes, ours and theirs, run in turn (A B A B). A round is the least of `--repeat` runs of one batch on each side;
what counts is CPU time of the process (other processes' load falls out of it) and, beside it, wall time. Printed is
theirs / ours of the least of all rounds, which is what an undisturbed machine would show, then the median and the range
of the rounds' own ratios: 1.00 is the same speed, more is couplet's faster. --all goes through the runtimes, each as it is
compared fairly (onnx and openvino over the graph that couplet writes: only the way to the runtime differs), marks what is
below --least, takes rounds until --seconds are used up for a line, and ends with 1 when a line is below. "ragged": lengths as of real pairs; Python pads them to the longest as its users do, couplet groups.
Rows are compared first. Run with a Python that has the runtime (the versions of tools/requirements-*.txt).
"""
import argparse
import ctypes
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

SEED = 11


# ---- ours: libcouplet ------------------------------------------------------------------------------------------------

class OpenOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("backend", ctypes.c_char_p), ("precision", ctypes.c_char_p),
                ("fallback", ctypes.c_int), ("threads", ctypes.c_uint32), ("batch_tokens_max", ctypes.c_uint32),
                ("max_length", ctypes.c_uint32), ("plugin_dir", ctypes.c_char_p), ("log", ctypes.c_void_p),
                ("count_stages", ctypes.c_int), ("team_max", ctypes.c_uint32)]


class Ids(ctypes.Structure):
    _fields_ = [("ids", ctypes.c_void_p), ("type_ids", ctypes.c_void_p), ("cu_seqlens", ctypes.c_void_p),
                ("n", ctypes.c_size_t)]


class Failure(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("what", ctypes.c_char * 512), ("file", ctypes.c_char * 256),
                ("key", ctypes.c_char * 128), ("byte", ctypes.c_int64), ("line", ctypes.c_int), ("column", ctypes.c_int)]


class StageTimes(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("queue_ns", "compute_ns", "passes", "tokens")]


class Ours:
    def __init__(self, o):
        import numpy

        self.numpy = numpy
        build = pathlib.Path(o.build).resolve()
        self.lib = ctypes.CDLL(str(build / "libcouplet.so"))
        self.failure, self.scorer = Failure(), ctypes.c_void_p()
        self.width = o.width
        options = OpenOptions(ctypes.sizeof(OpenOptions), o.backend.encode(), o.precision.encode(), 0, 1, 16384, 0,
                              str(build / "plugins").encode(), None, 0, 1)
        self.check(self.lib.cpl_scorer_open(ctypes.byref(self.scorer), o.model.encode(), ctypes.byref(options),
                                            ctypes.byref(self.failure)))

    def check(self, status):
        if status:
            raise RuntimeError(self.failure.what.decode())

    def prepare(self, rows):
        np = self.numpy
        self.ids = np.array([i for r in rows for i in r], np.int32)
        self.types = np.zeros(len(self.ids), np.uint8)
        self.cu = np.cumsum([0] + [len(r) for r in rows]).astype(np.uint32)
        self.out = np.empty((len(rows), self.width), np.float32)
        self.given = Ids(self.ids.ctypes.data, self.types.ctypes.data, self.cu.ctypes.data, len(rows))

    def run(self):
        stages = StageTimes()
        self.check(self.lib.cpl_scorer_run_ids(self.scorer, ctypes.byref(self.given),
                                               self.out.ctypes.data_as(ctypes.c_void_p), ctypes.byref(stages),
                                               ctypes.byref(self.failure)))
        if stages.passes != 1:
            raise RuntimeError("the batch ran in %d passes" % stages.passes)
        return self.out


# ---- theirs ----------------------------------------------------------------------------------------------------------

class Padded:
    """Subclasses give rows(ids, types, mask), int64 arrays of one shape: logits, or vectors pooled by mean."""

    def prepare(self, rows):
        import numpy as np

        width = max(len(r) for r in rows)
        self.ids, self.types, self.mask = (np.zeros((len(rows), width), np.int64) for _ in range(3))
        for i, r in enumerate(rows):
            self.ids[i, :len(r)] = r
            self.mask[i, :len(r)] = 1

    def run(self):
        return self.rows(self.ids, self.types, self.mask)


class Torch(Padded):
    """transformers' model, eager, as most people run it."""

    def __init__(self, o):
        import torch
        import transformers

        self.torch, self.logits = torch, o.cross
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)
        kind = transformers.BertForSequenceClassification if o.cross else transformers.BertModel
        more = {} if o.cross else {"add_pooling_layer": False}
        self.model = kind.from_pretrained(o.model, attn_implementation=getattr(o, "attention", "sdpa"), dtype=torch.float32, **more).eval()
        if o.precision == "int8":
            setting = {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
            self.model = torch.ao.quantization.quantize_dynamic(self.model, setting)
        else:
            self.model = self.model.to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[o.precision])

    def rows(self, ids, types, mask):
        t = self.torch
        with t.inference_mode():
            mask = t.from_numpy(mask)
            out = self.model(input_ids=t.from_numpy(ids), attention_mask=mask, token_type_ids=t.from_numpy(types))
            if self.logits:
                return out.logits.float().numpy()
            hidden, mask = out.last_hidden_state.float(), mask.unsqueeze(2).float()
            return ((hidden * mask).sum(1) / mask.sum(1)).numpy()


class OnnxRuntime(Padded):
    """PyTorch's own export of the model, through ONNX Runtime's Python interface at its defaults; int8 by its quantize_dynamic,
    per channel. With --same-graph the graph that `couplet export` writes: then only the way to the runtime differs."""

    def __init__(self, o):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = exported(o, dynamic_int8=True)
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [i.name for i in self.session.get_inputs()]

    def rows(self, ids, types, mask):
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return self.session.run(None, {n: given[n] for n in self.names})[0]


class OpenVino(Padded):
    """The same export through OpenVINO's Python interface; int8: the graph that tools/export_openvino.py left."""

    def __init__(self, o):
        import openvino

        bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = {"fp32": "f32", "bf16": "bf16", "int8": "bf16" if bf16 else "f32"}[o.precision]
        path = o.model + "/openvino_int8.xml" if o.precision == "int8" else exported(o)
        self.states = o.precision == "int8" and not o.cross
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1,
                  "INFERENCE_PRECISION_HINT": hint}
        self.request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()

    def rows(self, ids, types, mask):
        self.request.infer({"input_ids": ids, "attention_mask": mask, "token_type_ids": types}, share_inputs=True)
        out = self.request.get_output_tensor(0).data
        if not self.states:
            return out.copy()
        return (out * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)


def exported(o, dynamic_int8=False):
    """The model as an ONNX file below --work, made once."""
    kind = "couplet" if o.same_graph else "torch"
    int8 = dynamic_int8 and o.precision == "int8"
    path = pathlib.Path(o.work, "%s.%s.onnx" % (kind, "int8" if int8 else "fp32"))
    if path.exists():
        return str(path)
    if o.same_graph:
        subprocess.run([o.build + "/couplet", "export", "--model", o.model, "--precision", path.name.split(".")[1], path],
                       check=True)
        return str(path)
    plain = pathlib.Path(o.work, "torch.fp32.onnx")
    if not plain.exists():
        export_torch(o, plain)
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(plain, path, per_channel=True, weight_type=QuantType.QInt8)
    return str(path)


def export_torch(o, path):
    import torch

    model = Torch(argparse.Namespace(**dict(vars(o), precision="fp32", attention="eager"))).model

    class Rows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            out = self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            if o.cross:
                return out.logits
            mask = attention_mask.unsqueeze(2).float()
            return (out.last_hidden_state * mask).sum(1) / mask.sum(1)

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in names)
    with torch.inference_mode():
        torch.onnx.export(Rows(), example, str(path), input_names=names, output_names=["rows"], opset_version=17,
                          dynamic_axes={n: {0: "batch", 1: "length"} for n in names}, dynamo=False)



class Compiled(Torch):
    """The same model through torch.compile, shapes dynamic, weights frozen, as tools/export_compiled.py sets it."""

    def __init__(self, o):
        super().__init__(o)
        import torch._inductor.config as inductor

        inductor.freezing = True
        inductor.cpp.threads = 1
        options = self.torch._inductor.list_mode_options(o.mode, dynamic=True)
        self.model = self.torch.compile(self.model, dynamic=True, options=options or None)

    def prepare(self, rows):
        super().prepare(rows)
        for _ in range(3):  # compiling is not timed
            self.run()


class Mlx(Padded):
    """A BERT of mlx.nn's layers, as MLX's own examples write it."""

    def __init__(self, o):
        import mlx.core as mx
        import mlx.nn as nn

        config = json.loads(pathlib.Path(o.model, "config.json").read_text())
        weights = {}
        for name, w in mx.load(str(pathlib.Path(o.model, "model.safetensors"))).items():
            name = name.removeprefix("bert.")
            for old, new in (("LayerNorm", "norm"), ("intermediate.dense", "up"), ("attention.output.dense", "out"),
                             ("attention.output.norm", "attention_norm"), ("output.dense", "down"),
                             ("output.norm", "output_norm"), ("attention.self.", ""), ("encoder.layer.", "layers."),
                             ("_embeddings", ""), ("embeddings.", ""), ("pooler.dense", "pooler")):
                name = name.replace(old, new)
            weights[name] = w
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        epsilon, cross = config["layer_norm_eps"], o.cross

        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                for n in ("query", "key", "value", "out"):
                    setattr(self, n, nn.Linear(hidden, hidden))
                self.up = nn.Linear(hidden, config["intermediate_size"])
                self.down = nn.Linear(config["intermediate_size"], hidden)
                self.attention_norm, self.output_norm = nn.LayerNorm(hidden, epsilon), nn.LayerNorm(hidden, epsilon)

            def __call__(self, x, mask):
                batch, length, _ = x.shape
                q, k, v = (f(x).reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)
                           for f in (self.query, self.key, self.value))
                y = mx.fast.scaled_dot_product_attention(q, k, v, scale=(hidden // heads) ** -0.5, mask=mask)
                x = self.attention_norm(self.out(y.transpose(0, 2, 1, 3).reshape(batch, length, -1)) + x)
                return self.output_norm(self.down(nn.gelu(self.up(x))) + x)

        class Bert(nn.Module):
            def __init__(self):
                super().__init__()
                self.word = nn.Embedding(config["vocab_size"], hidden)
                self.position = nn.Embedding(config["max_position_embeddings"], hidden)
                self.token_type = nn.Embedding(config["type_vocab_size"], hidden)
                self.norm = nn.LayerNorm(hidden, epsilon)
                self.layers = [Layer() for _ in range(config["num_hidden_layers"])]
                if cross:
                    self.pooler, self.classifier = nn.Linear(hidden, hidden), nn.Linear(hidden, o.width)

            def __call__(self, ids, types, mask):
                x = self.norm(self.word(ids) + self.token_type(types) + self.position(mx.arange(ids.shape[1])))
                for layer in self.layers:
                    x = layer(x, mask)
                return x

        self.mx, self.model, self.cross = mx, Bert(), cross
        self.model.load_weights([(n, w) for n, w in weights.items() if cross or not n.startswith("pooler")
                                 if "position_ids" not in n])
        if o.precision in ("fp16", "bf16"):
            self.model.set_dtype(mx.float16 if o.precision == "fp16" else mx.bfloat16)
        elif o.precision != "fp32":
            nn.quantize(self.model, group_size=64, bits=8 if o.precision == "int8" else 4,
                        class_predicate=lambda path, m: path.startswith("layers") and isinstance(m, nn.Linear))
        mx.eval(self.model.parameters())

    def rows(self, ids, types, mask):
        import numpy as np

        mx = self.mx
        given = None if mask.all() else mx.array(mask.astype(bool))[:, None, None, :]
        x = self.model(mx.array(ids), mx.array(types), given).astype(mx.float32)
        if self.cross:
            x = self.model.classifier(mx.tanh(self.model.pooler(x[:, 0])))
        else:
            mask = mx.array(mask.astype(np.float32))[:, :, None]
            x = (x * mask).sum(1) / mask.sum(1)
        return np.array(x)


# What --all goes through: small, grouped and long batches where a runtime is fast enough for them.
ALL = [("onnx", "fp32", "1x32,16x17,8x128"), ("onnx", "int8", "1x32,16x17,8x128"),
       ("openvino", "fp32", "1x32,16x17,8x128"), ("openvino", "bf16", "1x32,16x17,8x128"),
       ("openvino", "int8", "1x32,16x17,8x128"),
       ("pytorch", "fp32", "1x32,16x17,8x128"), ("pytorch", "bf16", "1x32,16x17,8x128"),
       ("pytorch", "fp16", "1x32"), ("pytorch", "int8", "1x32,16x17,8x128"),
       ("compiled", "fp32", "1x32,8x128"), ("compiled", "bf16", "1x32,8x128"), ("compiled", "fp16", "1x32"),
       ("mlx", "fp32", "2x17"), ("mlx", "int8", "2x17"), ("mlx", "int4", "2x17")]
RUNTIMES = {"pytorch": Torch, "compiled": Compiled, "mlx": Mlx, "onnx": OnnxRuntime, "openvino": OpenVino}


# ---- the run ---------------------------------------------------------------------------------------------------------

def serve(pipe, options, mine):
    """Answers (verb, argument) until None."""
    warnings.filterwarnings("ignore")
    try:
        engine = Ours(options) if mine else RUNTIMES[options.backend](options)
        pipe.send(("ok", None))
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if asked is None:
                return
            if asked[0] == "prepare":
                engine.prepare(asked[1])
                pipe.send(("ok", engine.run().tolist()))
            else:
                pipe.send(("ok", sample(engine, asked[1])))
    except Exception as failure:  # whatever a foreign engine throws is one line
        pipe.send(("failed", "%s: %s" % (type(failure).__name__, str(failure).strip().split("\n")[0][:300])))


def sample(engine, repeat):
    """The least CPU and wall seconds of one batch."""
    cpu, wall = [], []
    for _ in range(repeat):
        c, w = time.process_time(), time.perf_counter()
        engine.run()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return min(cpu), min(wall)


class Missing(Exception):
    """This side can't run here; why."""


class Side:
    def __init__(self, options, mine):
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=serve, args=(there, options, mine), daemon=True)
        self.process.start()
        there.close()
        self.answer()

    def answer(self):
        try:
            kind, value = self.pipe.recv()
        except EOFError:
            kind, value = "failed", "the process died"
        if kind != "ok":
            raise Missing(value)
        return value

    def end(self):
        try:
            self.pipe.send(None)
        except OSError:
            pass
        self.process.join(10)

    def ask(self, *what):
        self.pipe.send(what)
        return self.answer()


def batch(shape, vocab, longest):
    import random

    draw = random.Random(SEED)
    if shape == "ragged":
        lengths = [max(8, min(longest, round(draw.lognormvariate(4.6, 0.33)))) for _ in range(16)]
    else:
        count, length = (int(x) for x in shape.split("x"))
        lengths = [length] * count
    return [[draw.randrange(vocab) for _ in range(n)] for n in lengths]


def spread(values):
    return "%.3f (%.3f to %.3f)" % (statistics.median(values), min(values), max(values))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--backend", choices=sorted(RUNTIMES))
    p.add_argument("--all", action="store_true", help="every line of the table ALL that can run here")
    p.add_argument("--seconds", type=float, default=4.0, help="of one shape, with --all")
    p.add_argument("--least", type=float, default=0.97, help="CPU ratio below which a line is marked, with --all")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--build", default="build", help="folder with libcouplet.so and plugins/")
    p.add_argument("--model", default="models/all-MiniLM-L6-v2")
    p.add_argument("--shapes", default="1x32,16x17,16x128,ragged")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--repeat", type=int, default=7)
    p.add_argument("--same-graph", action="store_true", help="onnx, openvino: theirs runs the graph that couplet writes")
    p.add_argument("--mode", default="default", help="of torch.compile")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    if bool(o.backend) == o.all:
        p.error("--backend NAME or --all")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # for both: some runtimes take every core they see
    work = tempfile.TemporaryDirectory(prefix="couplet-runtimes-")
    o.work = work.name
    config = json.loads(pathlib.Path(o.model, "config.json").read_text())
    o.cross = "SequenceClassification" in config["architectures"][0]
    o.width = len(config.get("id2label", {"0": ""})) if o.cross else config["hidden_size"]
    results, below = [], 0
    for backend, precision, shapes in ALL if o.all else [(o.backend, o.precision, o.shapes)]:
        one = argparse.Namespace(**dict(vars(o), backend=backend, precision=precision, shapes=shapes))
        one.same_graph |= o.all
        try:
            measured = compare(one, config)
        except Missing as e:
            if not o.all:
                sys.exit("bench_runtimes: %s" % e)
            print("%s %s: not measured: %s" % (backend, precision, e), flush=True)
            continue
        below += sum(r["cpu_of_least"] < o.least for r in measured)
        results.append({"backend": backend, "precision": precision, "model": o.model, "results": measured})
    if o.json:
        print(json.dumps(results if o.all else results[0]))
    if o.all:
        print("%d of %d lines are below %.2f" % (below, sum(len(r["results"]) for r in results), o.least))
        sys.exit(1 if below else 0)


def compare(o, config):
    """Every shape of one plug-in and precision."""
    results = []
    ours = Side(o, True)
    try:
        theirs = Side(o, False)
    except Missing:
        ours.end()
        raise
    for shape in o.shapes.split(","):
        rows = batch(shape, config["vocab_size"], min(config["max_position_embeddings"], 256))
        a, b = ours.ask("prepare", rows), theirs.ask("prepare", rows)
        apart = max(abs(x - y) for r, s in zip(a, b) for x, y in zip(r, s))
        pairs, until = [], time.monotonic() + o.seconds
        while len(pairs) < o.rounds or (o.all and time.monotonic() < until):
            pairs.append((ours.ask("sample", o.repeat), theirs.ask("sample", o.repeat)))
            if o.all and len(pairs) >= 3 and time.monotonic() >= until:
                break  # one batch of MLX's on a CPU takes seconds
        cpu, wall = ([y[k] / x[k] for x, y in pairs] for k in (0, 1))
        best, least = min(x[0] for x, _ in pairs), min(y[0] for _, y in pairs)
        results.append({"shape": shape, "cpu_of_least": least / best, "cpu_ratio": cpu, "wall_ratio": wall,
                        "couplet_cpu_ms": 1e3 * best, "max_abs": apart})
        if not o.json:
            mark = "  BELOW %.2f" % o.least if o.all and least / best < o.least else ""
            print("%-8s %-5s %-8s theirs / ours: CPU %.3f of the least, %s by %d rounds; wall %s; ours %.2f ms of CPU; rows "
                  "differ by %.2g%s" % (o.backend, o.precision, shape, least / best, spread(cpu), len(pairs), spread(wall),
                                        1e3 * best, apart, mark), flush=True)
    for side in (ours, theirs):
        side.end()
    return results


if __name__ == "__main__":
    main()
