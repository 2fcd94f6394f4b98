#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Served over in-process throughput, one pair a call, 64 in flight, for the loop and worker layouts of this machine.

    tools/bench_layouts.py [--pairs FILE] [--model DIR] [--seconds S] [--rounds N] [--precision P]

Every layout's server runs all the time and sleeps while it isn't asked; rounds go over all of them in turn, each with an
in-process measurement (`couplet bench engine` over the same pairs, ids in) right before it, so that a neighbour's noise
hits both sides of a ratio. Load generator and server share the cores. FILE defaults to $COUPLET_DATA. Standard library
only.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUPLET = os.environ.get("COUPLET_PROGRAM", str(ROOT / "build" / "couplet"))
IN_FLIGHT = 64

# name: settings. A pool is only used by texts over inline_bytes, so 1 sends every text there.
LAYOUTS = {
    "1 loop, inline, pinned": ["net_threads=1"],
    "1 loop, inline, free": ["net_threads=1", "pin_workers=false"],
    "2 loops, inline, pinned": ["net_threads=2"],
    "2 loops, inline, free": ["net_threads=2", "pin_workers=false"],
    "1 loop, pool of 1, pinned": ["net_threads=1", "tokenizer_pool.num_workers=1", "tokenizer_pool.inline_bytes=1"],
    "1 loop, pool of 1, free": ["net_threads=1", "tokenizer_pool.num_workers=1", "tokenizer_pool.inline_bytes=1",
                                "pin_workers=false"],
}


def couplet(*args):
    done = subprocess.run([COUPLET, *map(str, args), "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def start(model, precision, settings):
    args = [COUPLET, "serve", "--model", model, "--precision", precision, "--listen", "127.0.0.1:0"]
    for s in settings:
        args += ["--set", s]
    server = subprocess.Popen(args, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.match(r"listening on (\S+)", server.stdout.readline())
    if not found:
        sys.exit("a server did not start: " + " ".join(args))
    return server, found.group(1)


def measure(model, precision, pairs, seconds, rounds):
    servers = {name: start(model, precision, settings) for name, settings in LAYOUTS.items()}
    ratios = {name: [] for name in LAYOUTS}
    rates = {name: [] for name in LAYOUTS}
    p99 = {name: [] for name in LAYOUTS}
    try:
        for r in range(rounds):
            for name, (_, target) in servers.items():
                inside = couplet("bench", "engine", "--model", model, "--precision", precision, "--pairs", pairs,
                                 "--seconds", seconds)["results"][0]["pairs_per_s"]
                served = couplet("load", "--target", target, "--pairs", pairs, "--pairs-per-request", 1,
                                 "--concurrency", IN_FLIGHT, "--duration", seconds)
                rates[name].append(served["pairs_per_s"])
                p99[name].append(served["latency_ms"]["p99"])
                ratios[name].append(served["pairs_per_s"] / inside)
                print(f"round {r + 1}: {name}: {served['pairs_per_s']:.1f} served, {inside:.1f} in process",
                      file=sys.stderr)
    finally:
        for server, _ in servers.values():
            server.terminate()
        for server, _ in servers.values():
            server.wait(timeout=60)
    return ratios, rates, p99


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", default=os.environ.get("COUPLET_DATA"))
    p.add_argument("--model", default="models/seeded-cross-encoder")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    if not a.pairs:
        sys.exit("skipped: no pairs (--pairs FILE, or COUPLET_DATA)")
    ratios, rates, p99 = measure(a.model, a.precision, a.pairs, a.seconds, a.rounds)
    print("| layout | served pairs/s, median (min-max) | served / in process, median (min-max) | p99 ms |")
    print("|---|--:|--:|--:|")
    for name in LAYOUTS:
        v, q = rates[name], ratios[name]
        print("| %s | %.1f (%.1f-%.1f) | %.1f %% (%.1f-%.1f) | %.0f |" % (
            name, statistics.median(v), min(v), max(v), 100 * statistics.median(q), 100 * min(q), 100 * max(q),
            statistics.median(p99[name])))


main()
