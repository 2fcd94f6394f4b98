#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a full-size cross-encoder: an encoder that exists, with a pooler and a head drawn from a seed.

    tools/make_cross_encoder.py [--encoder models/all-MiniLM-L6-v2] [--output models/seeded-cross-encoder] [--seed 1]

Its speed is real, its scores mean nothing, and its config.json says so ("couplet_note"), which couplet repeats in every
report. Needs Python 3.9 and its standard library only. The same encoder and seed give the same bytes.
"""
import argparse
import json
import os
import random
import shutil
import struct
import sys

# Scale of the random matrices, so that the logits of real pairs spread over a useful part of the sigmoid: with
# all-MiniLM-L6-v2 and seed 1 their standard deviation over MS MARCO pairs is about 0.7.
POOLER_GAIN = 3.0
CLASSIFIER_GAIN = 2.0
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]


def read_safetensors(path):
    """The header's entries and the bytes of the data section."""
    with open(path, "rb") as f:
        raw = f.read()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, memoryview(raw)[8 + length :]


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes); written in the order given, header padded to 8 bytes."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for _, _, data in tensors.values():
            f.write(data)
    os.replace(path + ".part", path)


def gaussian(rng, shape, deviation):
    count = 1
    for n in shape:
        count *= n
    return "F32", list(shape), struct.pack("<%df" % count, *(rng.gauss(0.0, deviation) for _ in range(count)))


def encoder_tensors(path):
    """The encoder's tensors under "bert.", without the pooler and the buffers."""
    header, data = read_safetensors(path)
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in header else ""
    out = {}
    for name, entry in header.items():
        bare = name[len(prefix) :] if name.startswith(prefix) else ""
        if not bare.startswith(("embeddings.", "encoder.")) or bare == "embeddings.position_ids":
            continue
        begin, end = entry["data_offsets"]
        out["bert." + bare] = (entry["dtype"], entry["shape"], data[begin:end])
    if "bert.embeddings.word_embeddings.weight" not in out:
        sys.exit(f"make_cross_encoder: {path}: no BERT encoder in it")
    return out


def make(encoder, output, seed):
    with open(os.path.join(encoder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    hidden = config["hidden_size"]
    tensors = encoder_tensors(os.path.join(encoder, "model.safetensors"))
    rng = random.Random(seed)
    deviation = hidden**-0.5
    tensors["bert.pooler.dense.weight"] = gaussian(rng, (hidden, hidden), POOLER_GAIN * deviation)
    tensors["bert.pooler.dense.bias"] = gaussian(rng, (hidden,), 0.1)
    tensors["classifier.weight"] = gaussian(rng, (1, hidden), CLASSIFIER_GAIN * deviation)
    tensors["classifier.bias"] = gaussian(rng, (1,), 0.1)

    for key in ("_name_or_path", "gradient_checkpointing", "use_cache"):
        config.pop(key, None)
    name = os.path.basename(os.path.normpath(encoder))
    config.update(
        architectures=["BertForSequenceClassification"],
        id2label={"0": "LABEL_0"},
        label2id={"LABEL_0": 0},
        couplet_note=f"seeded random head on {name}: speed is real, scores mean nothing",
    )
    os.makedirs(output, exist_ok=True)
    for file in TOKENIZER_FILES:
        if os.path.exists(os.path.join(encoder, file)):
            shutil.copyfile(os.path.join(encoder, file), os.path.join(output, file))
    write_safetensors(os.path.join(output, "model.safetensors"), tensors)
    # Last, so that a directory with a config.json is a whole one.
    with open(os.path.join(output, "config.json.part"), "w", encoding="utf-8") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    os.replace(os.path.join(output, "config.json.part"), os.path.join(output, "config.json"))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--encoder", default="models/all-MiniLM-L6-v2", help="directory of a BERT encoder")
    p.add_argument("--output", default="models/seeded-cross-encoder")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    for file in ("config.json", "model.safetensors"):
        if not os.path.exists(os.path.join(a.encoder, file)):
            sys.exit(f"make_cross_encoder: {a.encoder}/{file} is not there: fetch the encoder first (make model)")
    make(a.encoder, a.output, a.seed)
    print(f"wrote {a.output} (seed {a.seed}; speed is real, scores mean nothing)")


if __name__ == "__main__":
    main()
