#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`couplet bench tokenizer` beside encode_batch of Hugging Face tokenizers on one thread: same texts, in turn.

    tools/bench_tokenizer.py [--model DIR] [--megabytes MB] [--rounds N] [--text NAME ...]

Each round runs both over the same texts: couplet in a new process, where its first pass counts, encode_batch without
special tokens, truncation and padding on --hf-megabytes of them (it is two orders slower), in batches of 1,000. Both are
counted by CPU time as well as by the clock, because machines are shared; the ratio is by CPU time, and for the first
round every id is compared. Prints one JSON document. Needs tokenizers and a release build."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOT = pathlib.Path(__file__).resolve().parent.parent
COUPLET = os.environ.get("COUPLET_PROGRAM", str(ROOT / "build" / "couplet"))
TEXTS = ["english", "accented", "cjk", "hangul"]


def couplet(*args):
    done = subprocess.run([COUPLET, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def couplet_round(options, path):
    got = json.loads(couplet("bench", "tokenizer", "--model", options.model, "--input", path, "--megabytes", 4096,
                             "--seconds", 0, "--json"))["results"][0]
    return got["first_pass_mb_per_s"], got["mb_per_s"], got["first_pass_mb_per_cpu_s"]


def peer_round(peer, lines, mb):
    start, cpu = time.perf_counter(), time.process_time()
    for i in range(0, len(lines), 1000):
        peer.encode_batch(lines[i:i + 1000], add_special_tokens=False)
    return mb / (time.perf_counter() - start), mb / (time.process_time() - cpu)


def same_ids(options, peer, lines):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": line}) + "\n" for line in lines)
        f.flush()
        ours = couplet("tokenize", "--model", options.model, "--input", f.name, "--max-length", 0).splitlines()
    theirs = peer.encode_batch(lines)
    return len(ours) == len(theirs) and all(json.loads(a)["ids"] == b.ids for a, b in zip(ours, theirs))


def measure(options, peer, name):
    with tempfile.NamedTemporaryFile(suffix=".txt") as f:
        couplet("bench", "tokenizer", "--text", name, "--megabytes", options.megabytes, "--write", f.name)
        lines = open(f.name, encoding="utf-8").read().splitlines()
        some, size = [], 0
        for line in lines:
            if size >= options.hf_megabytes * 1e6:
                break
            some.append(line)
            size += len(line.encode())
        if not same_ids(options, peer, some):
            sys.exit(f"{name}: the ids differ")
        rounds = [couplet_round(options, f.name) + peer_round(peer, some, size / 1e6) for _ in range(options.rounds)]
    first, repeats, first_cpu, peer_mb, peer_cpu = (statistics.median(c) for c in zip(*rounds))
    ratios = sorted(r[2] / r[4] for r in rounds)
    return {"text": name, "megabytes": options.megabytes, "rounds": options.rounds, "ids_compared_mb": size / 1e6,
            "couplet": {"first_pass_mb_per_s": first, "repeats_mb_per_s": repeats, "first_pass_mb_per_cpu_s": first_cpu},
            "tokenizers": {"mb_per_s": peer_mb, "mb_per_cpu_s": peer_cpu},
            "ratio": {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]}}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", default="models/all-MiniLM-L6-v2")
    p.add_argument("--megabytes", type=float, default=20)
    p.add_argument("--hf-megabytes", type=float, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--text", action="append", choices=TEXTS)
    options = p.parse_args()
    import tokenizers
    peer = tokenizers.Tokenizer.from_file(str(ROOT / options.model / "tokenizer.json"))
    peer.no_truncation()
    peer.no_padding()
    results = [measure(options, peer, name) for name in options.text or TEXTS]
    print(json.dumps({"tokenizers": tokenizers.__version__, "model": options.model, "results": results}, indent=2))


if __name__ == "__main__":
    main()
