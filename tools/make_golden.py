#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tiny models under tests/golden/models and what PyTorch computes with them and with the full-size ones.

    .venv/bin/python tools/make_golden.py [--output tests/golden] [--only NAME] [--models models]

Needs tools/requirements-golden.txt. The tests themselves need none of this: they read the committed files. What is in
them, and why each model is shaped as it is: tests/golden/README.md. The full-size models (all-MiniLM-L6-v2 and what
tools/make_cross_encoder.py makes of it, seed 1) are read from --models and skipped, with a word, where absent.

Rows come from Hugging Face transformers in fp32 on one thread, one sequence at a time (no padding); each file says how
far its own fp32 lies from fp64. Final scores and vectors come from sentence-transformers on the texts themselves.
"""
import argparse
import hashlib
import json
import math
import os
import random
import struct

import numpy
import safetensors.numpy
import sentence_transformers
import tokenizers
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, BertModel

WORDS = "the of a is it in to and how tall mount ever est what who was rain falls on score pair text river long deep ing ed"
LENGTHS = [1, 2, 3, 7, 17, 32, 33, 64, 100]
FP32 = {"device": "cpu", "model_kwargs": {"dtype": torch.float32}}  # not in what the file stores
STORAGE = {"F32": (torch.float32, 4), "F16": (torch.float16, 2), "BF16": (torch.bfloat16, 2)}

MODELS = {
    "cross-encoder": dict(
        kind="cross-encoder", store="F32", labels=["LABEL_0"], hidden=64, heads=2, layers=2, intermediate=80
    ),
    "cross-encoder-3-labels": dict(
        kind="cross-encoder", store="F16", labels=["contradiction", "entailment", "neutral"], hidden=64, heads=1,
        layers=1, intermediate=160, eps=1e-5,
        config={"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ),
    "embedder-mean": dict(
        kind="embedder", store="BF16", pooling="mean", normalize=True, hidden=96, heads=3, layers=1, intermediate=96,
        prefix="", max_seq_length=64, old_modules=True, position_ids=True,
    ),
    "embedder-cls": dict(
        kind="embedder", store="F16", pooling="cls", normalize=False, hidden=32, heads=2, layers=2, intermediate=64,
        act="relu", gamma_beta=True,
    ),
    "embedder-max": dict(
        kind="embedder", store="BF16", pooling="max", normalize=True, hidden=40, heads=5, layers=2, intermediate=56,
        act="gelu_new", prefix="", unaligned=True,
    ),
}  # fmt: skip

PAIRS = [
    ("How tall is Mount Everest?", "Mount Everest is 8,849 m tall."),
    ("how tall is mount everest", "The river is long and deep, and it rained on the pair."),
    ("what is a score", ""),
    ("", ""),
    ("who was it", "it was the river of rain " * 20),
    ("the long text " * 20, "the deep text " * 20),
    ("Élan naïve", "Zürich\u3000東京 [MASK] 3.14"),
    ("a", "b"),
]
FULL_TEXTS = [
    "How tall is Mount Everest?",
    "Mount Everest is 8,849 metres tall, measured from the sea to its summit.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "",
    "Café Zürich, 東京, naïve résumé: 3.14 & <b>[MASK]</b>",
    "The bank raised its rates by a quarter of a point, and the river broke its bank. " * 20,
]
FULL_PAIRS = [
    ("how tall is mount everest", FULL_TEXTS[1]),
    ("how tall is mount everest", FULL_TEXTS[2]),
    ("what do plants make from light", FULL_TEXTS[2]),
    ("what do plants make from light", ""),
    ("", ""),
    ("bank", FULL_TEXTS[5] * 2),
]


def vocabulary():
    letters = "abcdefghijklmnopqrstuvwxyz"
    out = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *"0123456789", *".,?&"]
    out += [w for w in WORDS.split() if w not in out] + ["##ing", "##ed", "##est", "##8", "##4", "##9"]
    return out


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def to_bytes(tensor):
    t = tensor.contiguous()
    return (t.view(torch.int16) if t.dtype in (torch.float16, torch.bfloat16) else t).numpy().tobytes()


def write_safetensors(path, tensors, unaligned):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    for name, t in tensors.items():
        blob = to_bytes(t)
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 + (3 if unaligned else 0))
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def initialise(model, seed):
    """Random weights that make softmax sharp, norms matter and logits spread."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            draw = torch.randn(p.shape, generator=g)
            if "LayerNorm.weight" in name:
                p.copy_(1 + 0.3 * draw)
            elif p.dim() == 1:
                p.copy_(0.3 * draw)
            elif "embeddings" in name:
                p.copy_(0.7 * draw)
            else:
                gain = 2.0 if ("query" in name or "key" in name or "classifier" in name) else 1.2
                p.copy_(gain / math.sqrt(p.shape[1]) * draw)


def make_tiny(name, spec, seed, directory):
    os.makedirs(directory, exist_ok=True)
    vocab = vocabulary()
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=spec["hidden"], num_hidden_layers=spec["layers"],
        num_attention_heads=spec["heads"], intermediate_size=spec["intermediate"], max_position_embeddings=104,
        type_vocab_size=2, hidden_act=spec.get("act", "gelu"), layer_norm_eps=spec.get("eps", 1e-12),
        id2label=dict(enumerate(spec.get("labels", ["LABEL_0"]))),
        label2id={l: i for i, l in enumerate(spec.get("labels", ["LABEL_0"]))},
    )  # fmt: skip
    model = BertForSequenceClassification(config) if spec["kind"] == "cross-encoder" else BertModel(config, add_pooling_layer=False)
    initialise(model, seed)
    dtype, _ = STORAGE[spec["store"]]
    prefix = spec.get("prefix", "bert.") if spec["kind"] == "embedder" else ""
    tensors = {}
    if spec.get("position_ids"):
        tensors[prefix + "embeddings.position_ids"] = torch.arange(104).unsqueeze(0)
    for key, p in model.state_dict().items():
        if key.endswith("_ids"):
            continue
        if spec.get("gamma_beta"):
            key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[prefix + key] = p.detach().to(dtype)
    write_safetensors(os.path.join(directory, "model.safetensors"), tensors, spec.get("unaligned", False))

    d = {k: v for k, v in config.to_dict().items() if v is not None}
    for key in ("transformers_version", "dtype", "bos_token_id", "eos_token_id", "pad_token_id", "_name_or_path"):
        d.pop(key, None)
    d["architectures"] = [type(model).__name__]
    d["couplet_note"] = f"tiny random model '{name}' for tests: scores mean nothing"
    d.update(spec.get("config", {}))
    write_json(os.path.join(directory, "config.json"), d)
    write_tokenizer(directory, vocab)
    if spec["kind"] == "embedder":
        write_modules(directory, spec)


def write_tokenizer(directory, vocab):
    wordpiece = tokenizers.BertWordPieceTokenizer({t: i for i, t in enumerate(vocab)}, lowercase=True)
    wordpiece.add_special_tokens(vocab[:5])
    wordpiece.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab.index("[CLS]")), ("[SEP]", vocab.index("[SEP]"))],
    )
    wordpiece.save(os.path.join(directory, "tokenizer.json"), pretty=False)
    options = {"do_lower_case": True, "model_max_length": int(1e30), "strip_accents": None, "tokenize_chinese_chars": True,
               "tokenizer_class": "BertTokenizer", "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]",
               "sep_token": "[SEP]", "unk_token": "[UNK]"}  # fmt: skip
    write_json(os.path.join(directory, "tokenizer_config.json"), options)


def write_modules(directory, spec):
    """sentence-transformers' files, as version 2 wrote them or as version 6 does."""
    old = spec.get("old_modules")
    base = "sentence_transformers.models."
    types = (
        [base + "Transformer", base + "Pooling", base + "Normalize"]
        if old
        else [
            "sentence_transformers.base.modules.transformer.Transformer",
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            "sentence_transformers.base.modules.normalize.Normalize",
        ]
    )
    paths = ["", "1_Pooling", "2_Normalize"]
    count = 3 if spec["normalize"] else 2
    write_json(
        os.path.join(directory, "modules.json"),
        [{"idx": i, "name": str(i), "path": paths[i], "type": types[i]} for i in range(count)],
    )
    os.makedirs(os.path.join(directory, "1_Pooling"), exist_ok=True)
    if old:
        keys = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
        pooling = {"word_embedding_dimension": spec["hidden"], "pooling_mode_mean_sqrt_len_tokens": False}
        pooling.update({"pooling_mode_" + v: k == spec["pooling"] for k, v in keys.items()})
    else:
        pooling = {"embedding_dimension": spec["hidden"], "pooling_mode": spec["pooling"], "include_prompt": True}
    write_json(os.path.join(directory, "1_Pooling", "config.json"), pooling)
    if "max_seq_length" in spec:
        limit = {"max_seq_length": spec["max_seq_length"], "do_lower_case": False}
        write_json(os.path.join(directory, "sentence_bert_config.json"), limit)


def load_reference(directory, kind):
    """The model in fp32, from the stored weights, without transformers' own loader (which would not know all names)."""
    config = BertConfig.from_pretrained(directory)
    config._attn_implementation = "eager"
    model = BertForSequenceClassification(config) if kind == "cross-encoder" else BertModel(config, add_pooling_layer=False)
    state = {}
    with safetensors.safe_open(os.path.join(directory, "model.safetensors"), framework="pt") as f:
        for key in f.keys():
            new = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            if kind == "embedder" and new.startswith("bert."):
                new = new[5:]
            if not new.endswith("position_ids") and not (kind == "embedder" and new.startswith("pooler.")):
                state[new] = f.get_tensor(key).float()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys and all(k.endswith("_ids") for k in result.missing_keys), result
    return model.eval()


def forward(model, ids, types, kind, pooling, dtype):
    model.to(dtype)
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long), output_hidden_states=True,
        )  # fmt: skip
    last = out.hidden_states[-1][0]
    if kind == "cross-encoder":
        return out.logits[0], last
    row = {"cls": lambda: last[0], "mean": lambda: last.mean(0), "max": lambda: last.max(0).values}[pooling]()
    return row, last


def numbers(t):
    return [float("%.9g" % v) for v in t.flatten().tolist()]


class Cases:
    def __init__(self, model, kind, pooling):
        self.model, self.kind, self.pooling = model, kind, pooling
        self.cases, self.worst = [], 0.0

    def add(self, ids, types, tokens=False, **extra):
        exact, _ = forward(self.model, ids, types, self.kind, self.pooling, torch.float64)
        row, last = forward(self.model, ids, types, self.kind, self.pooling, torch.float32)
        self.worst = max(self.worst, (row.double() - exact).abs().max().item())
        case = {**extra, "ids": ids, "type_ids": types, "row": numbers(row)}
        if tokens:
            case["tokens"] = numbers(last)
        self.cases.append(case)
        return row

    def add_random(self, lengths, vocab, seed, tokens_max):
        rng = random.Random(seed)
        for n in lengths:
            ids = [rng.randrange(vocab) for _ in range(n)]
            split = rng.randrange(1, n + 1)
            pair = self.kind == "cross-encoder" or n % 2
            self.add(ids, [int(pair and i >= split) for i in range(n)], tokens=1 < n <= tokens_max)


def add_pairs(cases, directory, pairs):
    ce = sentence_transformers.CrossEncoder(directory, **FP32)
    limit = ce.max_seq_length
    scores = numpy.asarray(ce.predict([list(p) for p in pairs], batch_size=1)).reshape(len(pairs), -1)
    for (query, document), score in zip(pairs, scores):
        # As a batch, which is how CrossEncoder calls it: given alone, an empty document would lose its [SEP].
        x = ce.tokenizer([[query, document]], truncation=True, max_length=limit)
        logits = cases.add(list(x["input_ids"][0]), list(x["token_type_ids"][0]), query=query, document=document,
                           final=numbers(torch.tensor(score)))  # fmt: skip
        expected = torch.sigmoid(logits) if ce.num_labels == 1 else logits
        assert (expected - torch.tensor(score)).abs().max() < 1e-4, (query, expected, score)


def add_texts(cases, directory, texts, with_final):
    st = sentence_transformers.SentenceTransformer(directory, **FP32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for text in texts:
        x = tokenizer(text, truncation=True, max_length=st.max_seq_length)
        row = cases.add(list(x["input_ids"]), list(x["token_type_ids"]), text=text)
        final = torch.tensor(st.encode(text))
        cosine = torch.nn.functional.cosine_similarity(row, final, dim=0).item()
        assert cosine > 0.999999, (text, cosine)
        if with_final:
            cases.cases[-1]["final"] = numbers(final)


def write_cases(path, directory, shown, cases, width):
    with open(os.path.join(directory, "model.safetensors"), "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    head = {
        "model": shown,
        "weights_sha256": digest,
        "made_with": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
                      "sentence-transformers": sentence_transformers.__version__},
        "kind": cases.kind,
        "width": width,
        "hidden": cases.model.config.hidden_size,
        "fp32_to_fp64_max_abs": float("%.3g" % cases.worst),
    }  # fmt: skip
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "cases": [\n')
        f.write(",\n".join("  " + json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases.cases))
        f.write("\n ]\n}\n")
    rows = numpy.array([c["row"] for c in cases.cases])
    print(f"{path}: {len(cases.cases)} cases, {os.path.getsize(path)} bytes, row std {rows.std(0).mean():.3f}, "
          f"fp32 to fp64 {cases.worst:.2g}")  # fmt: skip


def golden_tiny(name, spec, seed, output):
    directory = os.path.join(output, "models", name)
    make_tiny(name, spec, seed, directory)
    cases = Cases(load_reference(directory, spec["kind"]), spec["kind"], spec.get("pooling"))
    cases.add_random(LENGTHS + [104], len(vocabulary()), seed, 7)
    if spec["kind"] == "cross-encoder":
        add_pairs(cases, directory, PAIRS)
    else:
        add_texts(cases, directory, [p[1] for p in PAIRS], True)
    width = len(spec["labels"]) if "labels" in spec else spec["hidden"]
    write_cases(os.path.join(output, name + ".json"), directory, "tests/golden/models/" + name, cases, width)


def golden_full(name, kind, models, output):
    directory = os.path.join(models, name)
    if not os.path.exists(os.path.join(directory, "model.safetensors")):
        print(f"{directory}: absent, skipped")
        return
    cases = Cases(load_reference(directory, kind), kind, "mean")
    cases.add_random([1, 2, 33, 256] if kind == "embedder" else [1, 2, 3, 17, 33, 100, 128, 512], 30522, 7, 0)
    if kind == "cross-encoder":
        add_pairs(cases, directory, FULL_PAIRS)
    else:
        add_texts(cases, directory, FULL_TEXTS, False)
    width = 1 if kind == "cross-encoder" else cases.model.config.hidden_size
    write_cases(os.path.join(output, name + ".json"), directory, "models/" + name, cases, width)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--output", default="tests/golden")
    p.add_argument("--models", default="models")
    p.add_argument("--only", help="one model's name")
    a = p.parse_args()
    torch.set_num_threads(1)
    for seed, (name, spec) in enumerate(MODELS.items(), 1):
        if a.only in (None, name):
            golden_tiny(name, spec, seed, a.output)
    for name, kind in (("all-MiniLM-L6-v2", "embedder"), ("seeded-cross-encoder", "cross-encoder")):
        if a.only in (None, name):
            golden_full(name, kind, a.models, a.output)


if __name__ == "__main__":
    main()
