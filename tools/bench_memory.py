#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Start and memory of a server: seconds from start to the first score, proportional set size after load and after pairs.

    tools/bench_memory.py [--model DIR] [--precision P,P] [--pairs N] [--pairs-file FILE] [--starts N]

Start to first score is the whole life of `couplet score` on one pair: process, model, tokenizer, pass, exit; the least and
the median of several. Memory is the kernel's Pss of `couplet serve` with two workers, the largest mappings named. Needs
Python's standard library, Linux, a release build (or COUPLET_PROGRAM) and the model.
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from bench import COUPLET, ROOT, Server, couplet


def pss_mb(pid):
    text = pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE).group(1)) / 1024


def largest(pid, n=4):
    """The largest mappings, in MB of Pss, by name."""
    sums, name = {}, ""
    for line in pathlib.Path("/proc/%d/smaps" % pid).read_text().splitlines():
        head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line)
        if head:
            name = pathlib.Path(head.group(1)).name or "anonymous"
        elif line.startswith("Pss:"):
            sums[name] = sums.get(name, 0) + int(line.split()[1]) / 1024
    top = sorted(sums.items(), key=lambda kv: -kv[1])[:n]
    return ", ".join("%s %.1f" % (k, v) for k, v in top)


def first_score_s(model, precision, starts):
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as pair:
        pair.write("where do penguins live\tPenguins live almost only in the southern half of the world.\n")
        pair.flush()
        took = []
        for _ in range(starts):
            start = time.monotonic()
            subprocess.run([COUPLET, "score", "--model", model, "--precision", precision, "--threads", "2", "--input",
                            pair.name, "--log", "error"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            took.append(time.monotonic() - start)
    return min(took), statistics.median(took)


def measure(a, precision):
    least, median = first_score_s(a.model, precision, a.starts)
    with Server(a.model, "--precision", precision, "--threads", "2") as server:
        pid = server.process.pid
        time.sleep(0.3)
        loaded = pss_mb(pid)
        done, args = 0, ["--pairs", a.pairs_file] if a.pairs_file else []
        while done < a.pairs:
            n = min(a.pairs - done, 10000)
            got = couplet("load", "--target", server.target, "--pairs-per-request", 20, "--concurrency", 8,
                          "--requests", (n + 19) // 20, *args)
            done += n
            if got["pairs_per_s"] <= 0:
                sys.exit("no pairs were scored")
        after, where = pss_mb(pid), largest(pid)
    print("| %s | %.3f (%.3f) | %.3f | %.1f | %.1f | %s |" % (precision, least, median, server.ready_s, loaded, after,
                                                             where))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="models/seeded-cross-encoder")
    p.add_argument("--precision", default="int8")
    p.add_argument("--pairs", type=int, default=10000)
    p.add_argument("--pairs-file", help="real pairs instead of generated ones")
    p.add_argument("--starts", type=int, default=10)
    a = p.parse_args()
    print("| precision | start to first score, s: least (median) | server ready, s | PSS after load, MB | after %d pairs | of it |"
          % a.pairs)
    print("|---|--:|--:|--:|--:|---|")
    for precision in a.precision.split(","):
        measure(a, precision)


if __name__ == "__main__":
    main()
