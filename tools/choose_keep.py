#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What of an int8 or int4 model to keep in a better precision, from real pairs: the setting model.native.keep.

Each candidate (a layer's matrices of one kind) is kept alone and held against fp32 with `couplet bench quality`; then
they are kept together, the one that helped most first, until the goal is met. Prints a table and the setting.

    tools/choose_keep.py --pairs FILE --layers 6 --precision int8 --goal 0.999 [--model DIR] [--couplet build/couplet]
"""
import argparse
import json
import subprocess
import sys

ITEMS = ("qkv", "out", "up", "down")


def measure(a, keep):
    """What the goal speaks of, with those items kept; None where that changes nothing."""
    settings = " ".join(filter(None, [a.settings, f"keep={','.join(keep)}" if keep else ""]))
    command = [a.couplet, "bench", "quality", "--model", a.model, "--pairs", a.pairs, "--precision", a.precision,
               "--count", str(a.count), "--ranked", "1", "--json"]
    if settings:
        command += ["--settings", settings]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if "no better than what it has" in done.stderr:
            return None
        sys.exit(done.stderr.strip())
    row = json.loads(done.stdout)["results"][-1]
    return row["cosine_mean"] if a.by == "cosine" else row["spearman"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--couplet", default="build/couplet")
    p.add_argument("--model", default="models/all-MiniLM-L6-v2")
    p.add_argument("--pairs", required=True, help="texts like those the model will see")
    p.add_argument("--precision", default="int8", choices=("int8", "int4"))
    p.add_argument("--better", default="", help="precision to keep in (default: the next better one)")
    p.add_argument("--layers", type=int, required=True)
    p.add_argument("--items", default=",".join(ITEMS))
    p.add_argument("--by", default="spearman", choices=("spearman", "cosine"))
    p.add_argument("--goal", type=float, required=True)
    p.add_argument("--count", type=int, default=200, help="pairs to look at")
    p.add_argument("--settings", default="", help="other settings of the backend")
    a = p.parse_args()
    suffix = f"={a.better}" if a.better else ""
    base = measure(a, [])
    print(f"nothing kept: {a.by} {base:.5f}, goal {a.goal}", flush=True)
    found = []
    for item in a.items.split(","):
        for layer in range(a.layers):
            got = measure(a, [f"{item}.{layer}{suffix}"])
            if got is not None:
                found.append((got, f"{item}.{layer}{suffix}"))
                print(f"  {found[-1][1]:14} {got:.5f}", flush=True)
    keep = []
    for _, name in sorted(found, reverse=True):
        if base >= a.goal:
            break
        keep.append(name)
        base = measure(a, keep)
        print(f"  {' + '.join(keep)}: {base:.5f}", flush=True)
    print(f"model.native.keep: {','.join(keep) or 'none'}")
    if base < a.goal:
        sys.exit(f"the goal is not met: {base:.5f} with everything that was tried kept")


if __name__ == "__main__":
    main()
