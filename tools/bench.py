#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make bench`: the numbers of this machine, from couplet's own commands, as tables.

    tools/bench.py [--only PART,..] [--seconds S] [--write] [--json FILE]

Parts: engine, isa, scaling, quality, tokenizer, kernels, memory, served, generator, laboratory. Everything this machine
can run is run: each precision that `doctor` lists, each instruction set below the best. --write puts all tables into
docs/BENCH.md, every figure into docs/bench.json, and the short ones between the bench markers of README.md. Real pairs
come from COUPLET_DATA; without it the seeded generator's are used and the tables say so. Needs Python's standard library, a release build and
the models. Ten minutes or less on two cores.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUPLET = os.environ.get("COUPLET_PROGRAM", str(ROOT / "build" / "couplet"))
EMBEDDER, CROSS = "models/all-MiniLM-L6-v2", "models/seeded-cross-encoder"
MODELS = [("all-MiniLM-L6-v2, embedder", EMBEDDER), ("seeded cross-encoder", CROSS)]
ROUNDS = 3
# (pairs a request, requests in flight)
LOADS = [(1, 1), (1, 16), (1, 64), (32, 1), (32, 4)]
SHORT = ("fp32", "int8")  # precisions of README.md's table
# Rungs below, worth a row of their own: what people run elsewhere.
LOWER = {"amx": ["avx512", "avx2"], "avx512": ["avx2"]}


def couplet(*args, isa=None):
    """The JSON document that a command prints; None, with a line on stderr, when it fails."""
    env = dict(os.environ, COUPLET_LOG="error", **({"COUPLET_ISA": isa} if isa else {}))
    done = subprocess.run([COUPLET, *map(str, args), "--json"], cwd=ROOT, stdout=subprocess.PIPE, env=env)
    if done.returncode:
        print("bench: 'couplet %s' failed" % " ".join(map(str, args)), file=sys.stderr)
        return None
    return json.loads(done.stdout)


class Server:
    """A running `couplet serve`; `ready_s` is the time from start to its line on stdout, which follows a first score."""

    def __init__(self, model, *args):
        self.log = tempfile.TemporaryFile()
        start = time.monotonic()
        self.process = subprocess.Popen([COUPLET, "serve", "--model", model, "--listen", "127.0.0.1:0", *map(str, args)],
                                        cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - start
        found = re.match(r"listening on (\S+)", line)
        if not found:
            self.log.seek(0)
            sys.exit("the server did not start:\n" + self.log.read().decode())
        self.target = found.group(1)

    def pss_mb(self):
        rollup = pathlib.Path("/proc/%d/smaps_rollup" % self.process.pid).read_text()
        return int(re.search(r"^Pss:\s+(\d+)", rollup, re.M).group(1)) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)


def load(target, pairs, concurrency, *more):
    return couplet("load", "--target", target, "--pairs-per-request", pairs, "--concurrency", concurrency, *more)


def spread(values, digits=0):
    return "%.*f (%.*f-%.*f)" % (digits, statistics.median(values), digits, min(values), digits, max(values))


# ---- parts: each returns its tables and notes as lines, and leaves every figure in results ------------------------------

ENGINE_HEAD = ["| %s | tokens | pairs/s | of the peak beside (min-max) | of the peak from rest | L2 control, marked samples | one pair, p50 / p99 ms |",
               "|---|--:|--:|--:|--:|--:|--:|"]


def engine_rows(label, got):
    rows = []
    for r in got["results"]:
        rows.append("| %s | %s | %.0f | %.1f %% (%.1f-%.1f) | %.1f %% | %.2f, %d of %d | %.2f / %.2f |" % (
            label, r["length"], r["pairs_per_s"], 100 * r["efficiency"], 100 * r["efficiency_min"],
            100 * r["efficiency_max"], 100 * r["efficiency_of_rest"], r["l2_control"] or 0, r["samples_marked"],
            r["samples"], r["latency_ms"]["p50"], r["latency_ms"]["p99"]))
    return rows


def peak_note(label, got):
    c = got["peak_check"]
    theory = "no theory for it" if c["ratio"] is None else "%.4g by theory: %+.1f %%%s" % (
        c["expected"], 100 * (c["ratio"] - 1), "" if c["within_3_percent"] else ", off by more than 3 %")
    return "- %s: %s, %.1f GOP/s from rest at %.2f GHz, %.4g instructions a cycle and thread (%s)." % (
        label, got["peak"], got["results"][0]["peak_rest_ops_per_s"] / 1e9, c["clock_rest_hz"] / 1e9,
        c["instructions_per_cycle"], theory)


def stage_rows(label, got):
    rows = []
    for r in got["results"]:
        cells = ["%.1f%s" % (100 * s["share"], " (%.2f)" % s["of_peak"] if s["of_peak"] else "") for s in r["stages"]]
        rows.append("| %s | %s | %s |" % (label, r["length"], " | ".join(cells)))
    return rows


def bench_engine(a, results):
    tables, stages, notes, short = [], [], [], []
    real = os.environ.get("COUPLET_DATA")
    for name, model in reversed(MODELS):
        precisions = results["precisions"] if model == CROSS else [p for p in results["precisions"] if p in SHORT]
        rows = [ENGINE_HEAD[0] % ("in process, " + name), ENGINE_HEAD[1]]
        for p in precisions:
            got = couplet("bench", "engine", "--model", model, "--precision", p, "--lengths", "17,32,64,128", "--seconds",
                          a.seconds, *(["--pairs", real] if real else ["--mix"]))
            if not got:
                continue
            results["engine"].setdefault(name, {})[p] = got
            rows += engine_rows(p, got)
            if model == CROSS:
                notes.append(peak_note(p, got))
                if not stages:
                    names = [s["name"] for s in got["results"][0]["stages"]]
                    stages = ["| share of time in % (of peak) | tokens | " + " | ".join(names) + " |", "|---|--:|" + "--:|" * len(names)]
                stages += stage_rows(p, got)
            if p in SHORT:
                short.append((name, p, got))
        tables += rows + [""]
    results["short"] = short
    mix = "The mix is of %s." % (os.path.basename(real) if real else "pairs of the seeded generator (COUPLET_DATA names none)")
    return ["## Engine", "", *tables, mix, "", *notes, "", "### By stage, seeded cross-encoder", "", *stages]


def bench_isa(a, results):
    rows = [ENGINE_HEAD[0] % "seeded cross-encoder, `COUPLET_ISA`", ENGINE_HEAD[1]]
    notes = []
    for isa in LOWER.get(results["doctor"]["isa"], []):
        for p in [p for p in results["precisions"] if p in ("fp32", "int8")]:
            got = couplet("bench", "engine", "--model", CROSS, "--precision", p, "--lengths", "32,128", "--seconds", a.seconds,
                          "--no-stages", isa=isa)
            if got:
                results["isa"][isa + " " + p] = got
                rows += engine_rows(isa + ", " + p, got)
                notes.append(peak_note(isa + ", " + p, got))
    return ["## Lower instruction sets", "", *rows, "", *notes] if notes else []


def bench_scaling(a, results):
    """Fractions of the peak beside: what the peak loop itself gains by more threads cancels out."""
    cores = results["doctor"]["cores"]
    if cores < 2:
        return []
    rows = ["| seeded cross-encoder, 64 tokens | %d threads over one, pairs/s | the same over what the peak loop gains |" % cores, "|---|--:|--:|"]
    for p in [p for p in results["precisions"] if p in ("fp32", "int8")]:
        gains, fair = [], []
        for _ in range(ROUNDS):
            one, all_ = (couplet("bench", "engine", "--model", CROSS, "--precision", p, "--lengths", 64, "--seconds", a.seconds,
                                 "--no-stages", "--threads", n)["results"][0] for n in (1, cores))
            gains.append(all_["pairs_per_s"] / one["pairs_per_s"])
            fair.append(all_["efficiency"] / one["efficiency"])
        results["scaling"][p] = {"gain": gains, "over_peak_gain": fair}
        rows.append("| %s | %s | %s |" % (p, spread(gains, 2), spread(fair, 3)))
    return ["## More threads", "", *rows]


def bench_quality(a, results):
    real = os.environ.get("COUPLET_DATA")
    out = ["## Accuracy and speed against fp32", ""]
    precisions = [p for p in results["precisions"] if p != "fp32"]
    for name, model in MODELS:
        got = couplet("bench", "quality", "--model", model, "--precision", ",".join(precisions), *(["--pairs", real] if real else []))
        if not got:
            continue
        results["quality"][name] = got
        out += ["| %s | pairs/s | over fp32 (95 %%) | Spearman | Kendall | max, mean difference | over deviation | cosine mean, least | nDCG@10 | MRR@10 |" % name,
                "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for r in got["results"]:
            o = r["over_fp32"]
            interval = " (%.2f-%.2f)" % (o["low"], o["high"]) if o["low"] else ""
            out.append("| %s | %.0f | %.2f%s | %.5f | %.5f | %.4f, %.4f | %.3f, %.3f | %s | %.5f | %s |" % (
                r["precision"]["effective"], r["pairs_per_s"], o["mean"], interval, r["spearman"],
                r["kendall"], r["max_abs"], r["mean_abs"], r["max_abs_over_deviation"], r["mean_abs_over_deviation"],
                "%.6f, %.6f" % (r["cosine_mean"], r["cosine_min"]) if r["cosine_mean"] else "-", r["ndcg10"],
                "%.4f" % r["mrr10"] if r["mrr10"] is not None else "-"))
        out += ["", "%d pairs of %s; %d queries ranked, %d candidates each.%s" % (
            got["pair_count"], got["pairs"], got["ranked_queries"], got["candidates"],
            " No MRR: %s." % got["mrr10_missing"] if got["mrr10_missing"] else ""), ""]
    return out


def bench_tokenizer(a, results):
    got = couplet("bench", "tokenizer", "--model", EMBEDDER, "--seconds", a.seconds)
    if not got:
        return []
    results["tokenizer"] = got
    rows = ["| tokenizer, one core | first pass MB/s | repeats MB/s (min-max) | ids/s |", "|---|--:|--:|--:|"]
    for r in got["results"]:
        rows.append("| %s, %.0f MB | %.0f | %.0f (%.0f-%.0f) | %.1f M |" % (
            r["text"], r["bytes"] / 1e6, r["first_pass_mb_per_s"], r["mb_per_s"], r["mb_per_s_min"], r["mb_per_s_max"],
            r["tokens_per_s"] / 1e6))
    return ["## Tokenizer", "", *rows]


def bench_kernels(a, results):
    got = couplet("bench", "kernel", "--seconds", 0.06)
    if not got:
        return []
    results["kernels"] = got
    rows = ["| kernel alone, hot, one core | shape | GOP/s | of peak | M elements/s |", "|---|---|--:|--:|--:|"]
    for r in got["results"]:
        rows.append("| %s (%s) | %s | %s | %s | %.0f |" % (
            r["kernel"], r["kernels"], r["shape"], "%.1f" % (r["ops_per_s"] / 1e9) if r["ops_per_s"] else "-",
            "%.0f %%" % (100 * r["efficiency"]) if r["efficiency"] else "-", r["elements_per_s"] / 1e6))
    return ["## Kernels", "", *rows]


def bench_memory(a, results):
    rows = ["| server, 2 workers, seeded cross-encoder | start to first score, s | PSS then, MB | after pairs | PSS then, MB |", "|---|--:|--:|--:|--:|"]
    for p in results["precisions"]:
        pairs = 10000 if p == "int8" else 1000
        ready = []
        for _ in range(ROUNDS):
            with Server(CROSS, "--precision", p, "--threads", 2) as server:
                ready.append(server.ready_s)
                fresh = server.pss_mb()
                if len(ready) == ROUNDS:
                    load(server.target, 32, 4, "--requests", -(-pairs // 32))
                    used = server.pss_mb()
        results["memory"][p] = {"ready_s": ready, "pss_mb": fresh, "pss_after_mb": used, "pairs": pairs}
        rows.append("| %s | %s | %.0f | %d | %.0f |" % (p, spread(ready, 2), fresh, pairs, used))
    return ["## Memory and start", "", *rows]


def bench_served(a, results):
    rows = ["| served over gRPC, closed loop | precision | pairs a request | in flight | pairs/s, median (min-max) | p50 / p99 ms |",
            "|---|---|--:|--:|--:|--:|"]
    for name, model in reversed(MODELS):
        results["served"][name] = {}
        for precision in SHORT:
            if precision not in results["precisions"]:
                continue
            with Server(model, "--precision", precision) as server:
                load(server.target, 32, 4, "--duration", min(1, a.seconds))  # warm
                rounds = [[load(server.target, p, c, "--duration", a.seconds) for p, c in LOADS] for _ in range(ROUNDS)]
            results["served"][name][precision] = rounds
            for p, c in LOADS:
                rates, ms = served(rounds, p, c)
                rows.append("| %s | %s | %d | %d | %s | %.1f / %.1f |" % (name, precision, p, c, spread(rates), ms["p50"], ms["p99"]))
    return ["## Served", "", "Load generator and server share the cores.", "", *rows]


def served(rounds, pairs, in_flight):
    """The rounds' pairs a second under one load, and the latencies of the round in the middle."""
    i = LOADS.index((pairs, in_flight))
    middle = sorted(rounds, key=lambda r: r[i]["pairs_per_s"])[len(rounds) // 2]
    return [r[i]["pairs_per_s"] for r in rounds], middle[i]["latency_ms"]


def bench_generator(a, results):
    """What the load generator costs, and whether it tells of a server that stands still (the fake backend's stall)."""
    rows = ["| dialect | in flight | null server, requests/s | CPU a request, us |", "|---|--:|--:|--:|"]
    with Server("tests/golden/models/cross-encoder", "--backend", "fake") as server:
        for dialect in ("couplet-grpc", "tei"):
            got = [load(server.target, 1, 64, "--requests", 500, "--dialect", dialect)["selftest"] for _ in range(ROUNDS)]
            results["generator"][dialect] = got
            rows.append("| %s | 64 | %s | %s |" % (dialect, spread([g["requests_per_s"] for g in got]),
                                                   spread([g["cpu_us_per_request"] for g in got], 2)))
    # 1,000 passes a second, one in 1,000 of them 50 ms late: 1 request in 20 was due while it stood still.
    stall = ["--backend", "fake", "--threads", 1, "--set", "model.fake.stall_every=1000", "--set", "model.fake.stall_us=50000"]
    with Server("tests/golden/models/cross-encoder", *stall) as server:
        r = couplet("load", "--target", server.target, "--scenario", "constant", "--rate", 1000, "--requests", 4000)
    results["generator"]["stall"] = r
    ms = r["latency_ms"]
    return ["## The load generator", "", *rows, "",
            "A server that stands still for 50 ms once a second, at 1,000 requests a second: p50 %.2f, p95 %.1f, p99 %.1f, "
            "max %.1f ms (about 1 request in 20 was due in the stall: p99 is 40 ms when nothing is hidden); sent late "
            "p99 %.3f ms." % (ms["p50"], ms["p95"], ms["p99"], ms["max"], r["lag_ms_p99"])]


def bench_laboratory(a, results):
    """A backend of known speed through server, load, result file: do its fixed and per-token cost come back?"""
    given = {"fixed_ms": 20.0, "per_token_us": 40.0}  # experiments/19_known_costs.yaml
    with tempfile.TemporaryDirectory() as out:
        run = couplet("experiment", "run", "experiments/19_known_costs.yaml", "--output", out)
    points = [(p["passes"], p["pass_tokens_mean"], p["pass_mean_ms"]) for p in run["results"][0]["points"]]
    n, x, y = (sum(w * v for w, v in zip((p[0] for p in points), values))
               for values in ([1] * len(points), [p[1] for p in points], [p[2] for p in points]))
    xx, xy = sum(p[0] * p[1] ** 2 for p in points), sum(p[0] * p[1] * p[2] for p in points)
    slope = (n * xy - x * y) / (n * xx - x * x)
    found = {"fixed_ms": (y - slope * x) / n, "per_token_us": slope * 1e3}
    off = {k: found[k] / given[k] - 1 for k in given}
    results["laboratory"] = {"given": given, "found": found, "off": off}
    return ["## The laboratory itself", "",
            "A test backend that takes 20 ms a pass and 40 us a token; what its results say: %.2f ms (%+.2f %%) and %.2f us "
            "(%+.2f %%). Within 2 %%: %s." % (found["fixed_ms"], off["fixed_ms"] * 100, found["per_token_us"],
                                             off["per_token_us"] * 100,
                                             "yes" if max(map(abs, off.values())) <= 0.02 else "NO")]


PARTS = [("engine", bench_engine), ("isa", bench_isa), ("scaling", bench_scaling), ("quality", bench_quality),
         ("tokenizer", bench_tokenizer), ("kernels", bench_kernels), ("memory", bench_memory), ("served", bench_served),
         ("generator", bench_generator), ("laboratory", bench_laboratory)]


# ---- the page ----------------------------------------------------------------------------------------------------------

def read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return ""


def run(*args):
    return subprocess.run(args, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()


def machine(doctor):
    cc = (run(os.environ.get("CC", "cc"), "--version").splitlines() or ["no compiler found"])[0]
    return {"cpu": doctor["cpu"], "cores": doctor["cores"], "features": doctor["features"], "isa": doctor["isa"],
            "l2": read("/sys/devices/system/cpu/cpu0/cache/index2/size"), "l3": read("/sys/devices/system/cpu/cpu0/cache/index3/size"),
            "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not visible",
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"), "load_at_start": os.getloadavg()[0],
            "kernel": platform.release(), "compiler": cc, "couplet": doctor["version"],
            "commit": run("git", "describe", "--always", "--dirty", "--exclude", "*") or "unknown",
            "date": time.strftime("%Y-%m-%d", time.gmtime())}


def page(m, a, body):
    head = ["# Bench", "", "Written by `tools/bench.py --write` (`make bench`); every figure is in `bench.json` beside it. How the figures",
            "are taken: `docs/DESIGN.md`, Measuring. What limits them: `docs/PERFORMANCE.md`. The seeded cross-encoder's speed is",
            "real, its scores mean nothing.", "",
            "%s, %d cores (L2 %s, L3 %s, %d GB, governor %s), kernels %s, features %s; Linux %s; %s; couplet %s, commit %s, %s; load average %.2f at the start; `tools/bench.py --seconds %g`." % (
                m["cpu"], m["cores"], m["l2"], m["l3"], m["memory_gb"], m["governor"], m["isa"], m["features"], m["kernel"],
                m["compiler"], m["couplet"], m["commit"], m["date"], m["load_at_start"], a.seconds), ""]
    return "\n".join(head + body).rstrip() + "\n"


def readme_block(m, a, results):
    """A line a model and precision: what it does alone, and what is left of that behind a socket."""
    rows = ["| pairs/s | in process: 32 tokens | of the peak beside | one pair alone, p50 / p99 ms | mix of lengths "
            "| served, 1 pair a request, 64 in flight | served, 32 pairs, 4 in flight |", "|---|--:|--:|--:|--:|--:|--:|"]
    for name, p, got in results["short"]:
        by = {r["length"]: r for r in got["results"]}
        fixed, mix = by[32], by["mix"]
        rounds = results["served"].get(name, {}).get(p)
        cells = [spread(served(rounds, *load)[0]) if rounds else "-" for load in ((1, 64), (32, 4))]
        rows.append("| %s, %s | %.0f | %.0f %% | %.2f / %.2f | %.0f | %s |" % (
            name, p, fixed["pairs_per_s"], 100 * fixed["efficiency"], fixed["latency_ms"]["p50"], fixed["latency_ms"]["p99"],
            mix["pairs_per_s"], " | ".join(cells)))
    head = ("%s, %d cores, kernels %s; couplet %s, commit %s, %s; `tools/bench.py --seconds %g --write`. Served over gRPC, load "
            "generator and server on the same cores: median (least-most) of %d rounds. The seeded cross-encoder's speed is real, "
            "its scores mean nothing. All lengths, loads, precisions, accuracy, memory: [docs/BENCH.md](docs/BENCH.md)." % (
                m["cpu"], m["cores"], m["isa"], m["couplet"], m["commit"], m["date"], a.seconds, ROUNDS))
    return "\n".join([*textwrap.wrap(head, 120, break_long_words=False, break_on_hyphens=False), "", *rows])


def write(m, a, body, results):
    (ROOT / "docs" / "BENCH.md").write_text(page(m, a, body))
    kept = {k: v for k, v in results.items() if k != "short"}
    kept["doctor"] = {k: v for k, v in results["doctor"].items() if k != "backends"}
    (ROOT / "docs" / "bench.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    readme = ROOT / "README.md"
    text, n = re.subn(r"(<!-- bench:begin[^>]*-->\n).*?(\n<!-- bench:end -->)",
                      lambda found: found.group(1) + readme_block(m, a, results) + found.group(2), readme.read_text(), flags=re.DOTALL)
    if n != 1:
        sys.exit("README.md: the bench markers are not there exactly once")
    readme.write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", metavar="PART,..", help="some of the parts")
    p.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    p.add_argument("--write", action="store_true", help="into docs/BENCH.md, docs/bench.json and README.md; all parts only")
    p.add_argument("--json", metavar="FILE", help="everything the commands printed")
    a = p.parse_args()
    only = a.only.split(",") if a.only else [name for name, _ in PARTS]
    unknown = [name for name in only if name not in dict(PARTS)]
    if unknown or (a.write and a.only):
        sys.exit("no part called '%s'" % unknown[0] if unknown else "--write needs all parts")
    doctor = couplet("doctor", "--no-run")
    native = next(b for b in doctor["backends"] if b["name"] == "native")
    results = {"doctor": doctor, "precisions": native["precisions"], "machine": machine(doctor)}
    body = []
    for name, part in PARTS:
        if name not in only:
            continue
        start = time.monotonic()
        results[name] = {}
        body += part(a, results) + [""]
        print("bench: %s took %.0f s" % (name, time.monotonic() - start), file=sys.stderr)
    print(page(results["machine"], a, body))
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(results, indent=1) + "\n")
    if a.write:
        write(results["machine"], a, body, results)


if __name__ == "__main__":
    main()
