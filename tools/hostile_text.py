# SPDX-License-Identifier: Apache-2.0
"""Strings that are hard on a tokenizer, by number: the same as tests/unit/text/hostile_text.h makes, scalar by scalar.

Change both together, then run tools/make_tokenizer_golden.py.
"""
SEED = 0x636F75706C657431
MASK64 = (1 << 64) - 1

WORDS = ["the", "playing", "unaffordable", "Tokenization", "naïve", "Straße", "ΟΔΥΣΣΕΥΣ", "İstanbul", "ﬁancé", "don't",
         "e-mail", "C++", "3.14", "1,000,000", "U.S.A.", "embeddings", "réélu", "Müller", "ñandú", "Ǆungla", "ß", "ﬀ"]
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[cls]", "[[MASK]]", "[MASK", "[ SEP]", "##ing", "[MASK]s", "a[SEP]b",
           " [MASK] ", "<k>", "<K>", "  <l>", "<r>  ", "new york", "New  York", "<both> ", "Ünï", "x<k>", "<k>y", "_<k>", "\n<l>",
           "x<kk>", "<kk>"]
WHITE = [0x20, 0x09, 0x0A, 0x0D, 0x0B, 0x0C, 0x85, 0xA0, 0x1680, 0x2000, 0x2009, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
CONTROL = [0x00, 0x01, 0x08, 0x1B, 0x7F, 0x80, 0x9F, 0xAD, 0x600, 0x200B, 0x200C, 0x200D, 0x200E, 0x202E, 0x2060, 0xFEFF,
           0xFFFD, 0xFFFE, 0xFFFF, 0xE000, 0xF8FF, 0xE0001, 0xE0041, 0xF0000, 0x10FFFF, 0x1D173]
ORDERED = [0x0300, 0x0316, 0x0327, 0x0345, 0x034F, 0x035C, 0x302A, 0x302E, 0x302F, 0x1D165, 0x1D166, 0x1D16D, 0x0898,
           0x08CA, 0x1DFA, 0x094D, 0x09BE, 0x1133B, 0x16FF0, 0x0F71, 0x0F72, 0x05B0, 0x0651, 0x3099, 0x1ABF, 0x20D0,
           0x1DCE, 0x1BAA, 0x1B44, 0x10A0D, 0x1E94A, 0x0C55, 0x0CE6, 0x0DCF, 0x0344]
RANGES = [(0xC0, 0x180), (0x370, 0x2A0), (0x590, 0x170), (0x900, 0x480), (0xE00, 0x200), (0x1E00, 0x200), (0x1100, 0x100),
          (0x3040, 0xC0), (0x4E00, 0x5200), (0xAC00, 0x2BA4), (0xF900, 0x200), (0x2F800, 0x21E), (0x2B800, 0x140),
          (0x1F300, 0x400), (0x2000, 0x300), (0x10400, 0x50), (0x1D100, 0x100), (0x11100, 0x200), (0xFF00, 0xF0),
          (0x2150, 0x350)]


class Random:
    def __init__(self, state):
        self.state = state & MASK64

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return z ^ (z >> 31)

    def below(self, n):
        return (self.next() >> 32) % n


def scalar(c):
    """Any code point, surrogates folded away."""
    return c - 0xD800 + 0x4E00 if 0xD800 <= c < 0xE000 else c


def piece(r):
    kind = r.below(16)
    if kind == 0:
        return [(0x61 if r.below(4) else 0x41) + r.below(26) for _ in range(1 + r.below(12))]
    if kind == 1:
        return [ord(c) for c in WORDS[r.below(len(WORDS))]]
    if kind == 2:
        return [scalar(r.below(0x10000)) for _ in range(1 + r.below(4))]
    if kind == 3:
        return [scalar(r.below(0x110000)) for _ in range(1 + r.below(4))]
    if kind == 4:
        out = [0x61 + r.below(26)]
        out += [0x300 + r.below(0x70) for _ in range(1 + r.below(4))]
        return out
    if kind in (5, 6):
        first, size = RANGES[r.below(len(RANGES))]
        return [first + r.below(size) for _ in range(1 + r.below(6))]
    if kind == 7:
        return [WHITE[r.below(len(WHITE))] for _ in range(1 + r.below(3))]
    if kind == 8:
        return [CONTROL[r.below(len(CONTROL))] for _ in range(1 + r.below(3))]
    if kind == 9:
        out = []
        for _ in range(1 + r.below(3)):
            out += [0x1F300 + r.below(0x500), 0xFE0F, 0x200D][:1 + r.below(3)]
        return out
    if kind == 10:  # around the limit of 100 characters
        if r.below(8):
            return [0x30 + r.below(10) for _ in range(1 + r.below(5))]
        base = [0x61, 0xE9, 0x3B1, 0x61][r.below(4)]
        return [base + r.below(3) for _ in range(95 + r.below(12))]
    if kind == 11:
        return [ord(c) for c in SPECIAL[r.below(len(SPECIAL))]]
    if kind == 12:
        return [0x21 + r.below(15) for _ in range(1 + r.below(4))]
    if kind == 13:
        return [ORDERED[r.below(len(ORDERED))] for _ in range(1 + r.below(r.below(32) == 0 and 40 or 6))]
    if kind == 14:
        return [0x61 + r.below(5) for _ in range(1 + r.below(8))]
    return [0x80 + r.below(0x780) for _ in range(1 + r.below(8))]


def hostile_string(number):
    r = Random(SEED + number * 0xD1342543DE82EF95)
    out = []
    for _ in range(r.below(13)):
        out += piece(r)
        if r.below(2):
            out.append(0x20)
    return "".join(map(chr, out))
