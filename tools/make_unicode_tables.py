#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_tables.c by asking Hugging Face `tokenizers` about every Unicode scalar value.

    python3 tools/make_unicode_tables.py            # needs tokenizers == 0.23.3
    python3 tools/make_unicode_tables.py --check    # fails if the committed file differs

The library is probed, not the Unicode database: it mixes tables of several Unicode versions (general categories of one,
decompositions of another, white space of a third), and exact ids need exactly that mix.
"""
import os
import subprocess
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

PINNED = "0.23.3"
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
WHITE, DROP, CJK, PUNCT, MARK, LOWER, DECOMPOSE, WORD = (1 << i for i in range(8))
HANGUL = range(0xAC00, 0xAC00 + 11172)


def bert(**on):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    options.update(on)
    return normalizers.BertNormalizer(**options).normalize_str


def require(condition, what):
    if not condition:
        sys.exit(f"the library does not behave as the C code assumes: {what}")


def probe_flags(flags):
    clean, cjk, strip = bert(clean_text=True), bert(handle_chinese_chars=True), bert(strip_accents=True)
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    for c in SCALARS:
        x = chr(c)
        y = "a" + x + "b"
        words = [w for w, _ in split(y)]
        if words == ["a", "b"]:
            flags[c] |= WHITE
        elif words == ["a", x, "b"]:
            flags[c] |= PUNCT
        else:
            require(words == [y], f"pre-tokenizer, U+{c:04X}")
        cleaned = clean(y)
        if cleaned == "ab":
            flags[c] |= DROP
        elif cleaned == "a b":
            require(flags[c] & WHITE, f"cleaned to a space but not white, U+{c:04X}")
        else:
            require(cleaned == y and not flags[c] & WHITE, f"clean_text, U+{c:04X}")
        spaced = cjk(y)
        if spaced != y:
            require(spaced == "a " + x + " b", f"CJK spacing, U+{c:04X}")
            flags[c] |= CJK
        if strip(y) == "ab":
            flags[c] |= MARK


def probe_word(flags):
    """\\w of the library's regular expressions, which single_word added tokens look at."""
    t = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.add_tokens([AddedToken("<k>", single_word=True, normalized=False)])
    t.add_tokens([AddedToken("<r>", rstrip=True, normalized=False)])
    k = t.token_to_id("<k>")
    for start in range(0, len(SCALARS), 65536):
        part = SCALARS[start:start + 65536]
        for c, e in zip(part, t.encode_batch(["<k>" + chr(c) for c in part])):
            if k not in e.ids:
                flags[c] |= WORD
        for c, e in zip(part, t.encode_batch(["<r>" + chr(c) + "q" for c in part])):
            require((e.offsets[0] == (0, 4)) == bool(flags[c] & WHITE), f"\\s is not white space, U+{c:04X}")


def probe_maps(flags, lower, decomposition):
    low, nfd = bert(lowercase=True), normalizers.NFD().normalize_str
    for c in SCALARS:
        x = chr(c)
        mapped = low(x)
        require(low("a" + x + "b") == "a" + mapped + "b", f"lower case depends on context, U+{c:04X}")
        if mapped != x:
            flags[c] |= LOWER
            lower[c] = [ord(m) for m in mapped]
        parts = [ord(p) for p in nfd(x)]
        if c in HANGUL:
            s = c - 0xAC00
            want = [0x1100 + s // 588, 0x1161 + s % 588 // 28] + ([0x11A7 + s % 28] if s % 28 else [])
            require(parts == want, f"Hangul, U+{c:04X}")
        elif parts != [c]:
            flags[c] |= DECOMPOSE
            decomposition[c] = parts


def probe_classes(flags, decomposition):
    """Canonical combining classes, by which pairs NFD swaps. References of each class come from Python's database and
    are themselves probed."""
    nfd = normalizers.NFD().normalize_str
    references = {}
    for c in SCALARS:
        k = unicodedata.ucd_3_2_0.combining(chr(c))  # old characters, so that the library knows them
        if k and c not in decomposition:
            references.setdefault(k, c)
    for c in SCALARS:
        k, x = unicodedata.combining(chr(c)), chr(c)
        if k and k not in references and nfd("\u0345" + x) == x + "\u0345":
            references[k] = c
    order = sorted(references)
    for a, b in zip(order, order[1:]):
        x, y = chr(references[a]), chr(references[b])
        require(nfd(y + x) == x + y and nfd(x + y) == x + y, f"order of classes {a} and {b}")
    classes = bytearray(0x110000)
    first, last = chr(references[order[0]]), chr(references[order[-1]])
    for c in SCALARS:
        if flags[c] & DECOMPOSE or c in HANGUL:
            continue
        x = chr(c)
        if nfd(last + x) == last + x and nfd(x + first) == x + first:
            require(nfd(first + last) == first + last, "references")
            continue
        same = [k for k in order
                if nfd(chr(references[k]) + x) == chr(references[k]) + x and nfd(x + chr(references[k])) == x + chr(references[k])]
        require(len(same) == 1, f"combining class of U+{c:04X}: {same}")
        classes[c] = same[0]
    return classes


def probe_composition(flags, lower, decomposition):
    """What the C code assumes about how the steps follow one another."""
    strip, both = bert(strip_accents=True), bert(strip_accents=True, lowercase=True)
    for c in SCALARS:
        parts = decomposition.get(c, [c])
        if c in HANGUL:
            continue
        kept = [p for p in parts if not flags[p] & MARK]
        require(strip(chr(c)) == "".join(map(chr, kept)), f"strip accents is NFD without Mn, U+{c:04X}")
        lowered = [m for p in kept for m in lower.get(p, [p])]
        require(both(chr(c)) == "".join(map(chr, lowered)), f"lower case follows strip accents, U+{c:04X}")
        require(len(lowered) <= len(chr(c).encode()), f"a text never has more characters than bytes, U+{c:04X}")


def two_stage(values, bits):
    size = 1 << bits
    blocks, index = [], []
    seen = {}
    for start in range(0, len(values), size):
        block = tuple(values[start:start + size])
        if block not in seen:
            seen[block] = len(blocks)
            blocks.append(block)
        index.append(seen[block])
    while len(index) > 1 and index[-1] == index[-2]:
        index.pop()  # the lookup clamps to the last entry
    return index, [v for b in blocks for v in b]


def best_two_stage(values, width):
    def cost(bits):
        index, flat = two_stage(values, bits)
        return len(index) * (1 if max(index) < 256 else 2) + len(flat) * width
    bits = min(range(4, 9), key=cost)
    return (bits, *two_stage(values, bits))


def emit(out, ctype, name, values):
    out.append(f"const {ctype} {name}[{len(values)}] = {{")
    line = ""
    for v in values:
        item = f"{v},"
        if len(line) + len(item) > 118:
            out.append(line)
            line = ""
        line += item
    out.append(line)
    out.append("};")


def index_type(index):
    return "uint8_t" if max(index) < 256 else "uint16_t"


def generate():
    if tokenizers.__version__ != PINNED:
        sys.exit(f"tokenizers {PINNED} is needed, this is {tokenizers.__version__}")
    flags = bytearray(0x110000)
    lower, decomposition = {}, {}
    probe_flags(flags)
    probe_maps(flags, lower, decomposition)
    probe_word(flags)
    classes = probe_classes(flags, decomposition)
    probe_composition(flags, lower, decomposition)

    kinds = sorted({(flags[c], classes[c]) for c in range(0x110000)})
    require(len(kinds) <= 256, "more than 256 kinds of characters")
    kind_of = {k: i for i, k in enumerate(kinds)}
    kind_bits, kind_index, kind_blocks = best_two_stage([kind_of[flags[c], classes[c]] for c in range(0x110000)], 1)

    several = {c: m for c, m in lower.items() if len(m) != 1}
    require(several == {0x130: [0x69, 0x307]}, f"lower case to several characters: {several}")
    deltas = sorted({m[0] - c for c, m in lower.items() if len(m) == 1})
    deltas = [0] + [d for d in deltas if d]
    require(len(deltas) <= 256, "more than 256 distances to lower case")
    delta_of = {d: i for i, d in enumerate(deltas)}
    lower_bits, lower_index, lower_blocks = best_two_stage(
        [delta_of[lower[c][0] - c] if c in lower and c not in several else 0 for c in range(0x110000)], 1)

    pool, at, where = [0], {}, [0] * 0x110000
    for c in sorted(decomposition):
        parts = tuple(decomposition[c])
        require(len(parts) <= 4, "a decomposition of more than four, for which encode.c has no room")
        if parts not in at:
            at[parts] = len(pool)
            pool.append(parts[0] | len(parts) << 24)
            pool.extend(parts[1:])
        where[c] = at[parts]
    require(len(pool) < 65536, "decomposition pool")
    decomp_bits, decomp_index, decomp_blocks = best_two_stage(where, 2)

    out = ["/* SPDX-License-Identifier: Apache-2.0 */",
           "/* unicode_tables.c - generated by tools/make_unicode_tables.py from tokenizers " + PINNED + "; do not edit.",
           " * What that library does with each of the 1,112,064 Unicode scalar values, as two-stage tables; the layout is",
           " * described in unicode_tables.h. */",
           "/* clang-format off */",
           '#include "text/unicode_tables.h"', ""]
    out.append(f"/* {len(kinds)} kinds: flags, combining class */")
    emit(out, "uint8_t", "cpl_unicode_kind_flags", [k[0] for k in kinds])
    emit(out, "uint8_t", "cpl_unicode_kind_class", [k[1] for k in kinds])
    emit(out, index_type(kind_index), "cpl_unicode_kind_index", kind_index)
    emit(out, "uint8_t", "cpl_unicode_kind_blocks", kind_blocks)
    emit(out, "int32_t", "cpl_unicode_lower_delta", deltas)
    emit(out, index_type(lower_index), "cpl_unicode_lower_index", lower_index)
    emit(out, "uint8_t", "cpl_unicode_lower_blocks", lower_blocks)
    emit(out, "uint32_t", "cpl_unicode_decomp_pool", pool)
    emit(out, index_type(decomp_index), "cpl_unicode_decomp_index", decomp_index)
    emit(out, "uint16_t", "cpl_unicode_decomp_blocks", decomp_blocks)
    table = "\n".join(out) + "\n"
    sizes = {
        "KIND": (kind_bits, len(kind_index), index_type(kind_index), len(kind_blocks), len(kinds)),
        "LOWER": (lower_bits, len(lower_index), index_type(lower_index), len(lower_blocks), len(deltas)),
        "DECOMP": (decomp_bits, len(decomp_index), index_type(decomp_index), len(decomp_blocks), len(pool)),
    }
    return table, sizes


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(root, "src", "text", "unicode_tables.c")
    table, sizes = generate()
    header = open(os.path.join(root, "src", "text", "unicode_tables.h")).read() if os.path.exists(
        os.path.join(root, "src", "text", "unicode_tables.h")) else ""
    for name, (bits, entries, ctype, blocks, records) in sizes.items():
        want = f"#define CPL_UNICODE_{name}_BITS"
        print(name, "bits", bits, "index", entries, ctype, "blocks", blocks, "records", records)
        lines = [l for l in header.splitlines() if l.startswith(want)]
        if not lines or int(lines[0].split()[2]) != bits or f"CPL_UNICODE_{name}_LAST {entries - 1}" not in " ".join(
                header.split()):
            print(f"  unicode_tables.h needs CPL_UNICODE_{name}_BITS {bits} and CPL_UNICODE_{name}_LAST {entries - 1}")
    if "--check" in sys.argv:
        sys.exit(0 if open(path).read() == table else "unicode_tables.c differs from what the library does")
    with open(path, "w") as f:
        f.write(table)


if __name__ == "__main__":
    main()
