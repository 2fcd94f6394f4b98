#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the engine scales over cores, beside how the machine's own peak loop does.

Runs `couplet bench engine --threads N` for each N, in interleaved rounds, and sets the speed-up over one thread against
the speed-up of the multiply-add loop that the same runs measured right beside their samples: a machine that clocks down
when all its cores are busy, or shares them with neighbours, takes the same from both. Efficiency 1 means that adding
cores loses nothing but what the machine itself loses. With the backend fake, which computes nothing, the same runs show
what the engine's queue and locks can do: sequences a second, no peak.

    tools/bench_scaling.py --threads 1,2,4,8,16 --rounds 5 --precision int8 --model models/seeded-cross-encoder
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def bench(args, threads, length, backend):
    command = [args.program, "bench", "engine", "--model", args.model, "--backend", backend, "--precision",
               args.precision if backend != "fake" else "fp32", "--lengths", length, "--threads", str(threads), "--seconds",
               str(args.seconds), "--log", "error", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench_scaling: '{' '.join(command)}' failed: {done.stderr.strip()}")
    return json.loads(done.stdout)["results"]


def collect(args, counts, backend):
    """{(threads, length): [result, ...]} over the rounds, thread counts in turn, every other round backwards."""
    rows = {}
    for r in range(args.rounds):
        for n in counts if r % 2 == 0 else reversed(counts):
            for result in bench(args, n, args.lengths, backend):
                rows.setdefault((n, result["length"]), []).append(result)
            print(f"round {r + 1} of {args.rounds}: {backend}, {n} threads", file=sys.stderr)
    return rows


def ratios(rows, n, length, key):
    """Round by round: the value on n threads over that on one."""
    return [a[key] / b[key] for a, b in zip(rows[n, length], rows[1, length])]


def table(rows, counts):
    out = []
    for length in sorted({l for _, l in rows}, key=str):
        for n in counts:
            results = rows[n, length]
            speed, peak = ratios(rows, n, length, "pairs_per_s"), ratios(rows, n, length, "peak_ops_per_s")
            efficiency = [s / p for s, p in zip(speed, peak)]
            out.append({"length": length, "threads": n,
                        "pairs_per_s": statistics.median(r["pairs_per_s"] for r in results),
                        "of_peak": statistics.median(r["efficiency"] for r in results),
                        "speed_up": statistics.median(speed), "peak_speed_up": statistics.median(peak),
                        "efficiency": statistics.median(efficiency), "efficiency_min": min(efficiency),
                        "efficiency_max": max(efficiency),
                        "one_pair_p50_ms": statistics.median(r["latency_ms"]["p50"] for r in results)})
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default=str(ROOT / "build" / "couplet"))
    p.add_argument("--model", default="models/seeded-cross-encoder")
    p.add_argument("--precision", default="int8")
    p.add_argument("--threads", default="1,2,4,8,16")
    p.add_argument("--lengths", default="32,128")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--fake", action="store_true", help="also the engine alone, over a backend that computes nothing")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    counts = sorted({1, *map(int, args.threads.split(","))})
    rows = table(collect(args, counts, "native"), counts)
    fake = collect(args, counts, "fake") if args.fake else {}
    engine = [{"length": l, "threads": n, "sequences_per_s": statistics.median(r["pairs_per_s"] for r in v)}
              for (n, l), v in sorted(fake.items(), key=lambda kv: (str(kv[0][1]), kv[0][0]))]
    if args.json:
        print(json.dumps({"precision": args.precision, "rounds": args.rounds, "scaling": rows, "engine_alone": engine},
                         indent=1))
        return
    print("| tokens | threads | pairs/s | of peak | speed-up | peak loop's | efficiency (min-max) | one pair, p50 ms |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for r in rows:
        print(f"| {r['length']} | {r['threads']} | {r['pairs_per_s']:.0f} | {100 * r['of_peak']:.1f} % | {r['speed_up']:.2f} | "
              f"{r['peak_speed_up']:.2f} | {r['efficiency']:.3f} ({r['efficiency_min']:.3f}-{r['efficiency_max']:.3f}) | "
              f"{r['one_pair_p50_ms']:.3f} |")
    for r in engine:
        print(f"engine alone, {r['length']} tokens, {r['threads']} workers: {r['sequences_per_s']:.0f} sequences/s")


if __name__ == "__main__":
    main()
