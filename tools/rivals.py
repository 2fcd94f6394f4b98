# SPDX-License-Identifier: Apache-2.0
"""What tools/bench_rivals.py measures: one engine behind one small interface, in a process of its own.

Each engine loads the same model directory (a BertForSequenceClassification with one label) and answers
    scores(pairs)        -> logits, in order: text in, its tokenizer included
    ids_rate(length, s)  -> sequences a second over s seconds, token ids in, one length
    one_ms(length, n)    -> n latencies of one sequence, token ids in
Engines that take rectangles share one batcher: tokenize everything, sort by length, pad each batch to its longest
rounded up to `pad`. Nothing here chooses settings; bench_rivals.py does. Not a command.
"""
import ctypes
import json
import os
import pathlib
import time
import warnings

SEED = 7


def numpy():
    import numpy

    return numpy


# ---- couplet, through its C library ----------------------------------------------------------------------------------

class Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class Pair(ctypes.Structure):
    _fields_ = [("query", Text), ("document", Text)]


class OpenOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("backend", ctypes.c_char_p), ("precision", ctypes.c_char_p),
                ("fallback", ctypes.c_int), ("threads", ctypes.c_uint32)]


class ScoreOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("form", ctypes.c_int), ("label", ctypes.c_int32)]


class Ids(ctypes.Structure):
    _fields_ = [("ids", ctypes.c_void_p), ("type_ids", ctypes.c_void_p), ("cu_seqlens", ctypes.c_void_p),
                ("n", ctypes.c_size_t)]


class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_char_p) for n in ("model", "model_note", "architecture")] + \
               [("task", ctypes.c_int)] + \
               [(n, ctypes.c_uint32) for n in ("labels", "layers", "hidden", "heads", "intermediate", "vocab", "max_length")] + \
               [("cls_only", ctypes.c_int)] + \
               [(n, ctypes.c_char_p) for n in ("backend", "requested", "effective", "reason", "isa")]


class Failure(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("what", ctypes.c_char * 512), ("file", ctypes.c_char * 256),
                ("key", ctypes.c_char * 128), ("byte", ctypes.c_int64), ("line", ctypes.c_int), ("column", ctypes.c_int)]


class Couplet:
    def __init__(self, s):
        self.lib = ctypes.CDLL(s["library"])
        self.lib.cpl_version.restype = ctypes.c_char_p
        self.lib.cpl_scorer_describe.restype = ctypes.POINTER(Info)
        self.failure = Failure()
        self.scorer = ctypes.c_void_p()
        options = OpenOptions(ctypes.sizeof(OpenOptions), None, s["precision"].encode(), 0, s["threads"])
        self.check(self.lib.cpl_scorer_open(ctypes.byref(self.scorer), s["model"].encode(), ctypes.byref(options),
                                            ctypes.byref(self.failure)))
        info = self.lib.cpl_scorer_describe(self.scorer).contents
        self.vocab = info.vocab
        self.version = "couplet %s, %s, %s kernels" % (self.lib.cpl_version().decode(), info.effective.decode(),
                                                       info.isa.decode())

    def check(self, status):
        if status:
            raise RuntimeError(self.failure.what.decode())

    def scores(self, pairs):
        texts = [(q.encode(), d.encode()) for q, d in pairs]
        given = (Pair * len(texts))(*[Pair(Text(q, len(q)), Text(d, len(d))) for q, d in texts])
        out = (ctypes.c_float * len(texts))()
        raw = ScoreOptions(ctypes.sizeof(ScoreOptions), 1, 0)
        self.check(self.lib.cpl_scorer_score(self.scorer, given, ctypes.c_size_t(len(texts)), ctypes.byref(raw), out,
                                             ctypes.byref(self.failure)))
        return list(out)

    def run(self, ids, cu, n):
        np = numpy()
        out = np.empty(n, np.float32)
        types = np.zeros(len(ids), np.uint8)
        given = Ids(ids.ctypes.data, types.ctypes.data, cu.ctypes.data, n)
        self.check(self.lib.cpl_scorer_run_ids(self.scorer, ctypes.byref(given), out.ctypes.data_as(ctypes.c_void_p), None,
                                               ctypes.byref(self.failure)))

    def ids_rate(self, length, seconds):
        np = numpy()
        n = max(64, 1 << 15 >> length.bit_length())  # some 30,000 tokens a call
        ids = np.random.default_rng(SEED).integers(0, self.vocab, n * length).astype(np.int32)
        cu = (np.arange(n + 1) * length).astype(np.uint32)
        return rate(lambda: self.run(ids, cu, n), n, seconds)

    def one_ms(self, length, n):
        np = numpy()
        ids = np.random.default_rng(SEED).integers(0, self.vocab, length).astype(np.int32)
        cu = np.array([0, length], np.uint32)
        return latencies(lambda: self.run(ids, cu, 1), n)


# ---- those that take rectangles --------------------------------------------------------------------------------------

def rate(step, n, seconds):
    step()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        done += n
    return done / (time.perf_counter() - start)


def latencies(step, n):
    for _ in range(10):
        step()
    out = []
    for _ in range(n):
        start = time.perf_counter()
        step()
        out.append(1e3 * (time.perf_counter() - start))
    return out


class Rectangles:
    """Subclasses give logits(ids, mask, types), int64 arrays of one shape, as an array of as many."""
    whole_batches = False  # pad a last, smaller batch with copies: for engines compiled for one shape

    def __init__(self, s):
        from tokenizers import Tokenizer

        self.batch, self.pad = s["batch"], s["pad"]
        config = json.loads(pathlib.Path(s["model"], "config.json").read_text())
        self.vocab, longest = config["vocab_size"], config["max_position_embeddings"]
        self.tokenizer = Tokenizer.from_file(s["model"] + "/tokenizer.json")
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(longest)

    def rectangle(self, rows):
        np = numpy()
        width = -(-max(len(r[0]) for r in rows) // self.pad) * self.pad
        if self.whole_batches:
            rows = rows + [rows[-1]] * (self.batch - len(rows))
        ids, mask, types = (np.zeros((len(rows), width), np.int64) for _ in range(3))
        for i, (row, kind) in enumerate(rows):
            ids[i, :len(row)] = row
            types[i, :len(row)] = kind
            mask[i, :len(row)] = 1
        return ids, mask, types

    def scores(self, pairs):
        np = numpy()
        rows = [(e.ids, e.type_ids) for e in self.tokenizer.encode_batch_fast(pairs)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        out = np.empty(len(rows), np.float32)
        for at in range(0, len(order), self.batch):
            part = order[at:at + self.batch]
            out[part] = self.logits(*self.rectangle([rows[i] for i in part]))[:len(part)]
        return out.tolist()

    def square(self, n, length):
        np = numpy()
        ids = np.random.default_rng(SEED).integers(0, self.vocab, (n, length))
        return ids, np.ones_like(ids), np.zeros_like(ids)

    def ids_rate(self, length, seconds):
        given = self.square(self.batch, length)
        return rate(lambda: self.logits(*given), self.batch, seconds)

    def one_ms(self, length, n):
        given = self.square(1, length)
        return latencies(lambda: self.logits(*given), n)


def read_model(path, attention="sdpa"):
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.BertForSequenceClassification.from_pretrained(path, attn_implementation=attention,
                                                                       dtype=torch.float32)
    return model.eval()


class Torch(Rectangles):
    def __init__(self, s):
        super().__init__(s)
        import torch

        self.torch = torch
        torch.set_num_threads(s["threads"])
        self.model = read_model(s["model"])
        self.version = "torch %s" % torch.__version__
        if s["precision"] == "bf16":
            self.model = self.model.to(torch.bfloat16)
        if s.get("compile"):
            import torch._inductor.config as inductor

            inductor.freezing = True
            self.model = torch.compile(self.model, dynamic=True)
            self.version += ", compiled (inductor, freezing, dynamic shapes)"

    def logits(self, ids, mask, types):
        t = self.torch
        with t.inference_mode():
            got = self.model(input_ids=t.from_numpy(ids), attention_mask=t.from_numpy(mask),
                             token_type_ids=t.from_numpy(types)).logits
            return got[:, 0].float().numpy()


def export_onnx(path, model_dir):
    """fp32, batch and length free."""
    import torch

    model = read_model(model_dir, "eager")
    model.config.return_dict = False
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in names)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]

    # The older exporter: what the newer one makes of this model, quantize_dynamic refuses (1.31).
    with torch.inference_mode():
        torch.onnx.export(Logits(), example, path, input_names=names, output_names=["logits"], opset_version=17,
                          dynamic_axes={n: {0: "batch", 1: "length"} for n in names}, dynamo=False)


class OnnxRuntime(Rectangles):
    def __init__(self, s):
        super().__init__(s)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = s["threads"]
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(s["onnx"], options, providers=["CPUExecutionProvider"])
        self.version = "onnxruntime %s" % onnxruntime.__version__
        if s["precision"] == "int8":
            self.version += ", int8 dynamic, per channel"

    def logits(self, ids, mask, types):
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": types})[0][:, 0]


class OpenVino(Rectangles):
    """static: compiled for each (batch, length) on first use, so whole batches only."""

    def __init__(self, s):
        super().__init__(s)
        import openvino

        self.ov, self.core = openvino, openvino.Core()
        self.config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": s["threads"], "NUM_STREAMS": 1,
                       "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}[s["precision"]]}
        self.path, self.static, self.whole_batches = s["ir"], s["static"], s["static"]
        self.requests = {}
        if not self.static:
            self.request = self.core.compile_model(self.core.read_model(self.path), "CPU", self.config).create_infer_request()
        self.version = "openvino %s, %s%s" % (openvino.__version__.split("-")[0],
                                              "int8 (NNCF) with bf16 hint" if s["precision"] == "int8" else s["precision"],
                                              ", static shapes" if self.static else "")

    def for_shape(self, shape):
        if not self.static:
            return self.request
        if shape not in self.requests:
            model = self.core.read_model(self.path)
            model.reshape({p.get_any_name(): list(shape) for p in model.inputs})
            self.requests[shape] = self.core.compile_model(model, "CPU", self.config).create_infer_request()
        return self.requests[shape]

    def logits(self, ids, mask, types):
        request = self.for_shape(ids.shape)
        request.infer({"input_ids": ids, "attention_mask": mask, "token_type_ids": types}, share_inputs=True)
        return request.get_output_tensor(0).data[:, 0].copy()


ENGINES = {"couplet": Couplet, "torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def make_openvino(path, model_dir, pairs):
    """path: int8 IR by post-training quantisation, calibrated on `pairs`; without pairs the plain one."""
    import openvino
    import torch

    names = ("input_ids", "attention_mask", "token_type_ids")
    model = read_model(model_dir)
    model.config.return_dict = False
    with torch.inference_mode():
        model = openvino.convert_model(model, example_input={n: torch.ones(2, 16, dtype=torch.int64) for n in names})
    for given, name in zip(model.inputs, names):
        assert given.get_any_name() == name
        given.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    model.validate_nodes_and_infer_types()
    if pairs:
        import nncf

        shaper = Rectangles({"model": model_dir, "batch": 1, "pad": 1})
        rows = [(e.ids, e.type_ids) for e in shaper.tokenizer.encode_batch_fast(pairs)]
        data = nncf.Dataset([dict(zip(names, shaper.rectangle([r]))) for r in rows])
        model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    openvino.save_model(model, path, compress_to_fp16=False)


def make_onnx_int8(path, onnx):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(onnx, path, per_channel=True, weight_type=QuantType.QInt8)


# ---- the process -----------------------------------------------------------------------------------------------------

def serve(pipe, settings):
    """Answers (verb, arguments) until None; first says what runs, or why it doesn't."""
    if settings.get("cpus"):
        os.sched_setaffinity(0, settings["cpus"])
    try:
        engine = ENGINES[settings["engine"]](settings)
        pipe.send(("ok", engine.version))
        while True:
            asked = pipe.recv()
            if asked is None:
                return
            verb, arguments = asked
            pipe.send(("ok", getattr(engine, verb)(*arguments)))
    except Exception as failure:  # whatever a foreign engine throws is a line of the report
        pipe.send(("failed", "%s: %s" % (type(failure).__name__, str(failure).strip().split("\n")[0][:300])))


def prepare(pipe, cpus, name, path, arguments):
    """One of the make_ functions or export_onnx, in a process of its own; not timed, so on all cores."""
    os.sched_setaffinity(0, cpus)
    try:
        globals()[name](path, *arguments)
        pipe.send(("ok", None))
    except Exception as failure:
        pipe.send(("failed", "%s: %s" % (type(failure).__name__, str(failure).strip().split("\n")[0][:300])))
