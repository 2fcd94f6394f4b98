#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/tokenizer/: two small tokenizers and what Hugging Face `tokenizers` makes of the test texts.

    python3 tools/make_tokenizer_golden.py [--model models/all-MiniLM-L6-v2] [--pairs FILE.jsonl ...]

Needs tokenizers == 0.23.3 and the real model; the test (tests/unit/text/test_tokenizer.c) needs neither Python nor the
library. Expectations are hashes over ids, one a block, so that a difference names its block:

    scalars TOKENIZER OPTIONS FIRST HASH    scalars FIRST.. of a block of 16,384, each as X + " a" + X + "b ", 64 in a text
    alone   TOKENIZER OPTIONS FIRST HASH    the same scalars, each as a text of its own
    hostile TOKENIZER OPTIONS FIRST HASH    1,000 strings of hostile_text.py
    layout  TOKENIZER -       MAX   HASH    pairs of every size in SIZES, truncated to MAX
    pairs   TOKENIZER MAX     FILE  HASH    a JSONL file of pairs, FILE being the hash of its bytes
"""
import argparse
import json
import os
import sys

import tokenizers
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile_text import MASK64, hostile_string  # noqa: E402

PINNED = "0.23.3"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "tests", "golden", "tokenizer")
SIZES = [0, 1, 2, 3, 4, 5, 7, 10, 15, 20]
SCALAR_BLOCK, HOSTILE_BLOCK, HOSTILE_COUNT = 16384, 1000, 100000
OPTIONS = {
    "uncased": (True, True, None, True),  # clean_text, handle_chinese_chars, strip_accents, lowercase
    "cased": (True, True, None, False),
    "cased-stripped": (True, True, True, False),
    "uncased-accents": (True, True, False, True),
    "no-cjk": (True, False, None, True),
    "no-clean": (False, True, None, True),
}


class Hash:
    """FNV-1a over 32-bit words."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, words):
        h = self.value
        for w in words:
            h = ((h ^ w) * 0x100000001B3) & MASK64
        self.value = h

    def text(self, ids):
        self.add(ids)
        self.add((0xFFFFFFFF,))


def small_vocabulary():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [chr(c) for c in range(0x21, 0x7F)]
    words += ["##" + chr(c) for c in list(range(0x61, 0x7B)) + list(range(0x30, 0x3A)) + list(range(0x41, 0x5B))]
    words += ["the", "play", "##ing", "un", "##aff", "##able", "Token", "##ization", "token", "em", "##bed", "##ding", "##s",
              "ab", "##ab", "abc", "##cd", "##de", "bad", "cab", "new", "york", "uni", "##ss", "##xb", "aa", "##aaaa"]
    letters = "àéïñüßçøœæαβγδεσςοδυабвгдеёжийдтыєאבגשابتجकखगณดกあいうアイウカ。、¿«»…—€中国人文豈々İıǆﬁ"
    words += list(dict.fromkeys(letters)) + ["##" + c for c in dict.fromkeys(letters)]
    marks = [0x300, 0x301, 0x303, 0x307, 0x308, 0x316, 0x327, 0x302E, 0x302F, 0x1D165, 0x1D166, 0x1D16D, 0x94D, 0x9BE,
             0x898, 0x8CA, 0x1DFA, 0x34F, 0x345, 0xF71, 0x3099, 0x1BAA, 0x1B44, 0x200B, 0x200D, 0xFE0F, 0xFFFD, 0xAD, 0x85,
             0x16FF0, 0x1133B]
    jamo = list(range(0x1100, 0x1113)) + list(range(0x1161, 0x1176)) + list(range(0x11A8, 0x11C3))
    for c in marks + jamo:
        words += [chr(c), "##" + chr(c)]
    return {w: i for i, w in enumerate(dict.fromkeys(words))}


def added(identity, content, special=False, single_word=False, lstrip=False, rstrip=False, normalized=False):
    return dict(id=identity, content=content, single_word=single_word, lstrip=lstrip, rstrip=rstrip,
                normalized=normalized, special=special)


def template(cls, sep, twice):
    """[CLS] A [SEP] and the pair; `twice`: two separators between a and b, type ids of their own."""
    def token(name, type_id):
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    def text(which, type_id):
        return {"Sequence": {"id": which, "type_id": type_id}}
    between = [token("[SEP][SEP]", 2)] if twice else [token("[SEP]", 0)]
    special = {"[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]},
               "[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]}}
    if twice:
        special["[SEP][SEP]"] = {"id": "[SEP][SEP]", "ids": [sep, sep], "tokens": ["[SEP]", "[SEP]"]}
    pair = [token("[CLS]", 0), text("A", 0), *between, text("B", 1), token("[SEP]", 1)]
    if twice:
        pair = [token("[CLS]", 3), text("B", 1), *between, text("A", 0)]
    return {"type": "TemplateProcessing", "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)], "pair": pair,
            "special_tokens": special}


def small_tokenizer(rich):
    vocab = small_vocabulary()
    specials = [added(vocab[w], w, special=True) for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    if rich:
        n = len(vocab)
        specials[4] = added(vocab["[MASK]"], "[MASK]", special=True, lstrip=True)
        specials += [added(n, "<k>", single_word=True), added(n + 1, "<l>", lstrip=True), added(n + 2, "<r>", rstrip=True),
                     added(n + 3, "<both>", special=True, lstrip=True, rstrip=True, single_word=True),
                     added(n + 4, "New York", normalized=True), added(n + 5, "Ünï", normalized=True, single_word=True),
                     added(n + 6, "<K>", normalized=True, lstrip=True, rstrip=True), added(vocab["the"], "the"),
                     added(n + 7, "[MASK]s"), added(n + 8, "<kk>", single_word=True), added(n + 9, "k>")]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials,
            "normalizer": normalizer("uncased"), "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": template(vocab["[CLS]"], vocab["[SEP]"], rich),
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocab}}


def normalizer(options):
    clean, cjk, strip, lower = OPTIONS[options]
    return {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": cjk, "strip_accents": strip,
            "lowercase": lower}


def open_tokenizer(definition, options):
    definition = dict(definition, normalizer=normalizer(options), truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(definition))


CACHE = {}


def cached(definitions, name, options):
    if (name, options) not in CACHE:
        CACHE[name, options] = open_tokenizer(definitions[name], options)
    return CACHE[name, options]


def hash_texts(tokenizer, texts):
    h = Hash()
    for e in tokenizer.encode_batch(texts, add_special_tokens=False):
        h.text(e.ids)
    return h.value


def scalar_blocks():
    for first in range(0, 0x110000, SCALAR_BLOCK):
        block = [chr(c) for c in range(first, first + SCALAR_BLOCK) if not 0xD800 <= c < 0xE000]
        yield first, block, ["".join(x + " a" + x + "b " for x in block[i:i + 64]) for i in range(0, len(block), 64)]


def hash_pair(h, tokenizer, max_length, a, b):
    if max_length:
        tokenizer.enable_truncation(max_length)
    else:
        tokenizer.no_truncation()
    e = tokenizer.encode(a, b) if b is not None else tokenizer.encode(a)
    h.text(e.ids)
    h.text(e.type_ids)


def layouts(lines, name, definition):
    t = open_tokenizer(definition, "uncased")
    for max_length in [0, *range(3, 24), 31, 40]:
        h = Hash()
        for a in SIZES:
            hash_pair(h, t, max_length, "a " * a, None)
            for b in SIZES:
                hash_pair(h, t, max_length, "a " * a, "b " * b)
        lines.append(f"layout {name} - {max_length} {h.value:016x}")


def pairs(lines, definition, path):
    data = open(path, "rb").read()
    key = Hash()
    key.add(data)
    records = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    t = open_tokenizer(definition, "uncased")
    for max_length in (0, 512, 128, 50):
        h = Hash()
        for r in records:
            hash_pair(h, t, max_length, r["query"], r["document"])
        lines.append(f"pairs real {max_length} {key.value:016x} {h.value:016x}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=os.path.join(ROOT, "models", "all-MiniLM-L6-v2"))
    parser.add_argument("--pairs", nargs="*", default=[])
    args = parser.parse_args()
    if tokenizers.__version__ != PINNED:
        sys.exit(f"tokenizers {PINNED} is needed, this is {tokenizers.__version__}")
    real = json.load(open(os.path.join(args.model, "tokenizer.json")))
    definitions = {"real": real, "small": small_tokenizer(False), "rich": small_tokenizer(True)}
    os.makedirs(OUT, exist_ok=True)
    for name in ("small", "rich"):
        with open(os.path.join(OUT, name + ".json"), "w") as f:
            json.dump(definitions[name], f, ensure_ascii=True, separators=(",", ":"))
            f.write("\n")
    lines = [f"# made by tools/make_tokenizer_golden.py with tokenizers {PINNED}; do not edit"]
    for first, block, texts in scalar_blocks():
        for name, options in [("real", o) for o in OPTIONS] + [("small", o) for o in OPTIONS]:
            lines.append(f"scalars {name} {options} {first} {hash_texts(cached(definitions, name, options), texts):016x}")
        lines.append(f"alone real uncased {first} {hash_texts(cached(definitions, 'real', 'uncased'), block):016x}")
        print(f"\rscalars {first:x}", end="", flush=True)
    for first in range(0, HOSTILE_COUNT, HOSTILE_BLOCK):
        texts = [hostile_string(i) for i in range(first, first + HOSTILE_BLOCK)]
        for name, options in [("real", "uncased"), ("real", "cased"), ("small", "uncased"), ("small", "cased-stripped"),
                              ("small", "no-clean"), ("rich", "uncased"), ("rich", "cased")]:
            lines.append(f"hostile {name} {options} {first} {hash_texts(cached(definitions, name, options), texts):016x}")
        print(f"\rhostile {first}", end="", flush=True)
    for name in ("small", "rich"):
        layouts(lines, name, definitions[name])
    for path in args.pairs:
        pairs(lines, real, path)
    with open(os.path.join(OUT, "expected.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")
    print(f"\r{len(lines)} expectations")


if __name__ == "__main__":
    main()
