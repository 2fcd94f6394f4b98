#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make bench`: the numbers of this machine, from couplet's own commands, as tables.

    tools/bench.py [--seconds S] [--write] [--json FILE]

--write puts the tables between the bench markers of README.md, with the command, commit and machine they come from.
--json keeps every figure the commands gave. Needs Python's standard library, a release build and the models.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUPLET = os.environ.get("COUPLET_PROGRAM", str(ROOT / "build" / "couplet"))
MODELS = [("all-MiniLM-L6-v2, embedder", "models/all-MiniLM-L6-v2"),
          ("seeded cross-encoder", "models/seeded-cross-encoder")]
LENGTHS = [17, 32, 128]
ROUNDS = 3
# (pairs a request, requests in flight)
LOADS = [(1, 1), (1, 16), (1, 64), (32, 1), (32, 4)]


def couplet(*args):
    """The JSON document that a command prints."""
    done = subprocess.run([COUPLET, *map(str, args), "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Server:
    """A running `couplet serve`; `ready_s` is the time from start to its line on stdout."""

    def __init__(self, model, *args):
        self.log = tempfile.TemporaryFile()
        start = time.monotonic()
        self.process = subprocess.Popen([COUPLET, "serve", "--model", model, "--listen", "127.0.0.1:0", *args],
                                        cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - start
        found = re.match(r"listening on (\S+)", line)
        if not found:
            self.log.seek(0)
            sys.exit("the server did not start:\n" + self.log.read().decode())
        self.target = found.group(1)

    def resident_mb(self):
        status = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)


def load(target, pairs, concurrency, seconds):
    return couplet("load", "--target", target, "--pairs-per-request", pairs, "--concurrency", concurrency,
                   "--duration", seconds)


def bench_engine(seconds, results):
    rows = ["| in process, fp32 | tokens | pairs/s | of fp32 peak | one pair, p50 / p99 ms |", "|---|--:|--:|--:|--:|"]
    for name, model in MODELS:
        got = couplet("bench", "engine", "--model", model, "--lengths", ",".join(map(str, LENGTHS)), "--seconds", seconds)
        results["engine"][name] = got
        for r in got["results"]:
            rows.append("| %s | %s | %.0f | %.0f %% | %.2f / %.2f |" % (
                name, r["length"], r["pairs_per_s"], 100 * r["efficiency"], r["latency_ms"]["p50"],
                r["latency_ms"]["p99"]))
    return rows


def bench_served(seconds, results):
    rows = ["| served over gRPC, closed loop | pairs a request | in flight | pairs/s, median (min-max) | p50 / p99 ms |",
            "|---|--:|--:|--:|--:|"]
    notes = []
    for name, model in MODELS:
        with Server(model) as server:
            ready, fresh = server.ready_s, server.resident_mb()
            load(server.target, 32, 4, min(1, seconds))  # warm
            rounds = [[load(server.target, p, c, seconds) for p, c in LOADS] for _ in range(ROUNDS)]
            notes.append("%s: ready %.2f s after start, %.0f MB resident then, %.0f MB after the load." % (
                name, ready, fresh, server.resident_mb()))
        results["served"][name] = rounds
        for i, (p, c) in enumerate(LOADS):
            rates = [r[i]["pairs_per_s"] for r in rounds]
            middle = sorted(rounds, key=lambda r: r[i]["pairs_per_s"])[ROUNDS // 2][i]["latency_ms"]
            rows.append("| %s | %d | %d | %.0f (%.0f-%.0f) | %.1f / %.1f |" % (
                name, p, c, statistics.median(rates), min(rates), max(rates), middle["p50"], middle["p99"]))
    return rows, notes


def bench_tokenizer(seconds, results):
    rows = ["| text to ids, one thread, 20 MB generated | first pass MB/s | repeats MB/s (lowest to highest) | M ids/s |",
            "|---|--:|--:|--:|"]
    results["tokenizer"] = couplet("bench", "tokenizer", "--seconds", seconds)
    for r in results["tokenizer"]["results"]:
        rows.append("| %s | %.0f | %.0f (%.0f to %.0f) | %.1f |" % (
            r["text"], r["first_pass_mb_per_s"], r["mb_per_s"], r["mb_per_s_min"], r["mb_per_s_max"],
            r["tokens_per_s"] / 1e6))
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=3, help="for each figure")
    p.add_argument("--write", action="store_true", help="into README.md")
    p.add_argument("--json", metavar="FILE", help="everything the commands printed")
    a = p.parse_args()
    results = {"doctor": couplet("doctor"), "engine": {}, "served": {}}
    d = results["doctor"]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    engine = bench_engine(a.seconds, results)
    tokenizer = bench_tokenizer(a.seconds, results)
    served, notes = bench_served(a.seconds, results)
    peaks = [r["peak_ops_per_s"] for e in results["engine"].values() for r in e["results"]]
    head = ["%s, %d cores, kernels %s, fp32 peak %.0f GFLOP/s (median of those beside the samples); commit %s; `tools/bench.py --seconds %g`. Load generator"
            " and server share the cores. The seeded cross-encoder's speed is real, its scores mean nothing." % (
                d["cpu"], d["cores"], d["isa"], statistics.median(peaks) / 1e9, commit.stdout.strip() or "unknown",
                a.seconds)]
    block = "\n".join(head + [""] + engine + [""] + tokenizer + [""] + served + [""] + notes)
    print(block)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(results, indent=1) + "\n")
    if a.write:
        readme = ROOT / "README.md"
        text, n = re.subn(r"(<!-- bench:begin[^>]*-->\n).*?(\n<!-- bench:end -->)",
                          lambda m: m.group(1) + block + m.group(2), readme.read_text(), flags=re.DOTALL)
        if n != 1:
            sys.exit("README.md: the bench markers are not there exactly once")
        readme.write_text(text)


if __name__ == "__main__":
    main()
