#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles a model ahead of time (torch.compile's inductor through AOTInductor) into a package for backend `compiled`.

    .export-venv/bin/python tools/export_compiled.py MODEL_DIR [--precision fp32|bf16|fp16] [--mode default] [--output F]

Batch and length stay free. The package goes to MODEL_DIR/compiled-PRECISION-MODE.pt2, with COUPLET_COMPILED set to
MODEL-PRECISION-MODE.pt2 in that folder, where the backend looks for it, and
carries what the backend checks: precision, mode, torch's version, the instruction set it was compiled for, and a
fingerprint of model.safetensors. Its code runs on one thread: couplet's workers are the parallelism.
tools/setup.sh compiled-export installs what this needs.
"""
import argparse
import json
import mmap
import os
import pathlib
import platform
import sys

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def fingerprint(path):
    """Sum over 32-bit words of (index + 1) x word, modulo 2^64: src/backend/compiled/compiled.cpp has the same."""
    import numpy as np

    total = 0
    data = np.memmap(path, np.uint8, "r")
    data = data[:len(data) // 4 * 4].view(np.uint32)
    step = 1 << 22
    for at in range(0, len(data), step):
        words = data[at:at + step].astype(np.uint64)
        index = np.arange(at + 1, at + 1 + len(words), dtype=np.uint64)
        with np.errstate(over="ignore"):
            total = (total + int((words * index).sum(dtype=np.uint64))) % (1 << 64)
    return "%016x" % total


def read_safetensors(path):
    import torch

    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with open(path, "rb") as f:
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    size = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:8 + size]).items():
        if name == "__metadata__" or t["dtype"] not in types:
            continue
        begin, end = t["data_offsets"]
        flat = torch.frombuffer(bytearray(data[8 + size + begin:8 + size + end]), dtype=types[t["dtype"]])
        name = name.removeprefix("bert.").removeprefix("model.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        out[name] = flat.float().reshape(t["shape"])
    return out


def build(config, weights, dtype):
    """The same computation as backend pytorch: hidden states and, of a cross-encoder, logits, both in fp32."""
    import torch
    from torch.nn import functional as F

    heads, epsilon = config["num_attention_heads"], config.get("layer_norm_eps", 1e-12)
    activation = {"gelu": F.gelu, "relu": F.relu, "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
                  "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh")}[config["hidden_act"]]
    head = "classifier.weight" in weights

    class Bert(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.names = {}
            for i in range(config["num_hidden_layers"]):
                self.take("qkv%d" % i, *["encoder.layer.%d.attention.self.%s" % (i, n) for n in ("query", "key", "value")])
                self.take("out%d" % i, "encoder.layer.%d.attention.output.dense" % i)
                self.take("norm%d" % i, "encoder.layer.%d.attention.output.LayerNorm" % i)
                self.take("up%d" % i, "encoder.layer.%d.intermediate.dense" % i)
                self.take("down%d" % i, "encoder.layer.%d.output.dense" % i)
                self.take("last%d" % i, "encoder.layer.%d.output.LayerNorm" % i)
            self.take("norm", "embeddings.LayerNorm")
            for n in ("word", "position", "token_type"):
                self.register_buffer(n, weights["embeddings.%s_embeddings.weight" % n].to(dtype))
            if head:  # in fp32 whatever the rest is
                self.take("pooler", "pooler.dense", dtype=torch.float32)
                self.take("classifier", "classifier", dtype=torch.float32)

        def take(self, role, *names, dtype=dtype):
            for kind in ("weight", "bias"):
                self.register_buffer("%s_%s" % (role, kind), torch.cat([weights["%s.%s" % (n, kind)] for n in names]).to(dtype))

        def linear(self, x, role):
            return F.linear(x, getattr(self, role + "_weight"), getattr(self, role + "_bias"))

        def norm_of(self, x, role):
            return F.layer_norm(x, x.shape[-1:], getattr(self, role + "_weight"), getattr(self, role + "_bias"), epsilon)

        def forward(self, ids, types, mask):
            batch, length = ids.shape
            x = F.embedding(ids, self.word) + F.embedding(types, self.token_type) + self.position[:length]
            x = self.norm_of(x, "norm")
            mask = (mask != 0)[:, None, None, :]
            for i in range(config["num_hidden_layers"]):
                qkv = self.linear(x, "qkv%d" % i).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
                y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=mask)
                y = y.transpose(1, 2).reshape(batch, length, -1)
                x = self.norm_of(self.linear(y, "out%d" % i) + x, "norm%d" % i)
                x = self.norm_of(self.linear(activation(self.linear(x, "up%d" % i)), "down%d" % i) + x, "last%d" % i)
            if not head:
                return (x.float(),)
            pooled = torch.tanh(self.linear(x[:, 0].float(), "pooler"))
            return x.float(), self.linear(pooled, "classifier")

    return Bert().eval()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    p.add_argument("--mode", choices=MODES, default="default")
    p.add_argument("--output")
    o = p.parse_args()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)  # what is compiled, and run here to choose, names no library either
    try:
        import torch
        import torch._inductor
    except ImportError as failure:
        sys.exit("export_compiled: %s: run tools/setup.sh compiled-export and use .export-venv/bin/python" % failure)
    folder = pathlib.Path(o.model)
    config = json.loads((folder / "config.json").read_text())
    if config.get("position_embedding_type", "absolute") != "absolute" or "Bert" not in config["architectures"][0]:
        sys.exit("export_compiled: %s is no BERT with learned positions" % config["architectures"][0])
    elsewhere = os.environ.get("COUPLET_COMPILED")
    name = "%s-%s-%s.pt2" % (folder.name if elsewhere else "compiled", o.precision, o.mode)
    output = o.output or str(pathlib.Path(elsewhere or folder) / name)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[o.precision]
    torch.set_num_threads(1)
    model = build(config, read_safetensors(folder / "model.safetensors"), dtype)
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    length = torch.export.Dim("length", min=1, max=config["max_position_embeddings"])
    example = [torch.ones(3, 7, dtype=torch.int64) for _ in range(3)]
    part = str(pathlib.Path(output).resolve().with_suffix(".part.pt2"))  # nobody finds half a package
    options = dict(torch._inductor.list_mode_options(o.mode, dynamic=True))
    options.update({
        "freezing": True,
        "cpp.threads": 1,
        "aot_inductor.link_libtorch": False,  # the plug-in has it open: libtorch.so would ask for the GPU's part too
        "aot_inductor.metadata": {
            "couplet_precision": o.precision, "couplet_mode": o.mode, "couplet_torch": torch.__version__.split("+")[0],
            "couplet_isa": torch.backends.cpu.get_cpu_capability(), "couplet_machine": platform.machine(),
            "couplet_model": fingerprint(folder / "model.safetensors"), "couplet_labels": str(int(len(model(*example)) > 1)),
        },
    })
    with torch.no_grad():
        program = torch.export.export(model, tuple(example), dynamic_shapes=[{0: batch, 1: length}] * 3)
        torch._inductor.aoti_compile_and_package(program, package_path=part, inductor_configs=options)
    os.replace(part, output)
    print(output)


if __name__ == "__main__":
    main()
