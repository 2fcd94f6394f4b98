#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""couplet beside ONNX Runtime, OpenVINO and PyTorch on this machine: the same model directory, the same pairs, each at
its best settings, in turn (A B C A B C), after a warm-up.

    tools/bench_rivals.py --pairs FILE [--model DIR] [--threads 2] [--rounds 3] [--json FILE]

Needs Python with torch, transformers, tokenizers, onnx, onnxruntime, openvino and nncf (tools/
requirements-rivals.txt); one that is missing is a row that says so. Settings (batch, padding, one process of all threads
or one a core) are those that a sweep over both found best; --sweep tries the candidates again on the first 200 pairs.
Every engine sorts by length and tokenizes with Hugging Face's tokenizers, couplet with its own; W1 is text to scores.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rivals  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLACK_S = 0.3  # between turns: thread pools of the last one go to sleep

# name, engine, precision, more settings, candidates of (processes or 0 for one with all threads, batch, pad)
PEERS = [
    ("torch fp32", "torch", "fp32", {}, [(0, 16, 1)]),
    ("torch bf16 compiled", "torch", "bf16", {"compile": True}, [(0, 16, 16), (0, 8, 16)]),
    ("ONNX Runtime int8", "onnxruntime", "int8", {}, [(1, 2, 1), (1, 4, 1), (0, 2, 1), (0, 4, 1)]),
    ("OpenVINO f32", "openvino", "fp32", {"static": False}, [(0, 4, 1)]),
    ("OpenVINO bf16", "openvino", "bf16", {"static": False}, [(0, 16, 16), (0, 8, 16)]),
    ("OpenVINO bf16 static", "openvino", "bf16", {"static": True}, [(1, 16, 16), (0, 16, 16)]),
    ("OpenVINO int8", "openvino", "int8", {"static": False}, [(0, 16, 16), (0, 8, 16)]),
    ("OpenVINO int8 static", "openvino", "int8", {"static": True}, [(1, 8, 16), (0, 16, 16)]),
]


class Peer:
    """One engine at one setting: a process, or one a core."""

    def __init__(self, name, settings, processes, cpus):
        self.name, self.reason, self.version = name, None, None
        self.once = settings["engine"] != "couplet" and settings["precision"] == "fp32"  # a reference: one round will do
        self.spread = len(cpus) if processes else 1
        self.setting = "" if settings["engine"] == "couplet" else "%s, batch %d, padded to %d" % (
            "%d processes" % self.spread if processes else "%d threads" % len(cpus), settings["batch"], settings["pad"])
        context = multiprocessing.get_context("spawn")
        self.workers = []
        each = 1 if processes else len(cpus)
        os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(each)
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        for i in range(self.spread):
            here, there = context.Pipe()
            own = dict(settings, threads=each, cpus=[cpus[i]] if processes else list(cpus))
            process = context.Process(target=rivals.serve, args=(there, own), daemon=True)
            process.start()
            there.close()
            self.workers.append((process, here))
        for worker in self.workers:
            self.version = self.answer(worker)

    def answer(self, worker):
        try:
            kind, value = worker[1].recv()
        except EOFError:
            kind, value = "failed", "the process died"
        if kind == "ok":
            return value
        self.reason = value
        return None

    def ask(self, verb, *arguments, workers=None):
        """All processes at once; the answers, or None after a failure."""
        workers = workers or self.workers
        if self.reason:
            return None
        for i, worker in enumerate(workers):
            worker[1].send((verb, [a[i::self.spread] if isinstance(a, list) else a for a in arguments]))
        answers = [self.answer(w) for w in workers]
        return None if self.reason else answers

    def scores(self, pairs):
        """(seconds, logits in order)"""
        start = time.perf_counter()
        answers = self.ask("scores", pairs)
        seconds = time.perf_counter() - start
        if answers is None:
            return None
        out = [0.0] * len(pairs)
        for i, part in enumerate(answers):
            out[i::self.spread] = part
        return seconds, out

    def close(self):
        for process, pipe in self.workers:
            try:
                pipe.send(None)
            except OSError:
                pass
            process.join(10)
            if process.is_alive():
                process.terminate()


# ---- statistics ------------------------------------------------------------------------------------------------------

def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [0.0] * len(values)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out


def agreement(reference, values):
    a, b = ranks(reference), ranks(values)
    differences = [abs(x - y) for x, y in zip(reference, values)]
    return {"spearman": statistics.correlation(a, b), "max_abs": max(differences),
            "mean_abs": statistics.fmean(differences), "reference_deviation": statistics.pstdev(reference)}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


# ---- the run ---------------------------------------------------------------------------------------------------------

def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, a):
        self.a = a
        self.start = time.monotonic()
        self.all_cpus = sorted(os.sched_getaffinity(0))
        self.cpus = [int(c) for c in a.cpus.split(",")] if a.cpus else self.all_cpus[:a.threads]
        os.sched_setaffinity(0, self.cpus)
        with open(a.pairs, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f if line.strip()][:a.count]
        self.pairs = [(r["query"], r["document"]) for r in rows]
        self.dir = tempfile.TemporaryDirectory(prefix="couplet-rivals-")
        self.made = {}
        self.rows = []

    def left(self):
        return self.a.budget - (time.monotonic() - self.start)

    def make(self, name, function, *arguments):
        """A file that an engine needs, made once; or the reason why not."""
        if name not in self.made:
            start = time.monotonic()
            path = os.path.join(self.dir.name, name)
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            process = context.Process(target=rivals.prepare, args=(there, self.all_cpus, function, path, arguments))
            process.start()
            there.close()
            try:
                kind, reason = here.recv()
            except EOFError:
                kind, reason = "failed", "the process died"
            process.join()
            self.made[name] = (path, reason if kind == "failed" else None)
            say("%-24s %s in %.0f s" % (name, "failed: %s" % reason if kind == "failed" else "made",
                                        time.monotonic() - start))
        return self.made[name]

    def settings(self, engine, precision, more):
        s = dict(more, engine=engine, precision=precision, model=self.a.model)
        reason = None
        if engine == "onnxruntime":
            s["onnx"], reason = self.make("fp32.onnx", "export_onnx", self.a.model)
            if not reason and precision == "int8":
                s["onnx"], reason = self.make("int8.onnx", "make_onnx_int8", s["onnx"])
        elif engine == "openvino":
            calibration = self.pairs[:self.a.calibration] if precision == "int8" else None
            s["ir"], reason = self.make("int8.xml" if calibration else "fp32.xml", "make_openvino", self.a.model, calibration)
        return s, reason

    def open(self, name, engine, precision, more, candidates):
        s, reason = self.settings(engine, precision, more)
        if reason:
            self.rows.append({"name": name, "reason": reason})
            return None
        best, best_rate = None, 0
        for processes, batch, pad in candidates if self.a.sweep else candidates[:1]:
            peer = Peer(name, dict(s, batch=batch, pad=pad), processes, self.cpus)
            rate = 1
            if self.a.sweep and not peer.reason:
                part = self.pairs[:200]
                peer.scores(part)
                got = [peer.scores(part) for _ in range(2)]
                rate = 0 if peer.reason else len(part) / min(g[0] for g in got)
                say("  %-24s %-36s %.0f pairs/s" % (name, peer.setting, rate))
            if not best or rate > best_rate:
                if best:
                    best.close()
                best, best_rate = peer, rate
            else:
                peer.close()
        return best

    def open_all(self):
        peers = []
        for precision in self.a.precisions.split(","):
            s = {"engine": "couplet", "precision": precision, "model": self.a.model, "library": self.a.library}
            peers.append(Peer("couplet " + precision, s, 0, self.cpus))
        for entry in PEERS:
            if self.a.peers and not any(entry[0].lower().startswith(p.strip().lower()) for p in self.a.peers.split(",")):
                continue
            start = time.monotonic()
            peer = self.open(*entry)
            if peer:
                say("%-24s open in %.0f s%s" % (entry[0], time.monotonic() - start, ": " + peer.reason if peer.reason else ""))
                peers.append(peer)
        return peers

    def warm_up(self, peers):
        for p in peers:
            start = time.monotonic()
            for _ in range(2 if "compiled" in p.name or "static" in p.name else 1):
                p.scores(self.pairs)
            for length in self.lengths:
                p.ask("ids_rate", length, 0.1)
            say("%-24s warm in %.1f s%s" % (p.name, time.monotonic() - start, ": " + p.reason if p.reason else ""))

    def run(self):
        a = self.a
        self.lengths = [int(n) for n in a.lengths.split(",")] if a.lengths else []
        peers = self.open_all()
        self.warm_up(peers)
        rates = {p.name: [] for p in peers}
        fixed = {p.name: {n: [] for n in self.lengths} for p in peers}
        logits, rounds = {}, 0
        while rounds < a.rounds and (rounds == 0 or self.left() > 0):
            for p in peers:
                if rounds and p.once:
                    continue
                time.sleep(SLACK_S)
                got = p.scores(self.pairs)
                if got:
                    rates[p.name].append(len(self.pairs) / got[0])
                    logits[p.name] = got[1]
            for n in self.lengths:
                for p in peers:
                    if rounds and p.once:
                        continue
                    time.sleep(SLACK_S)
                    got = p.ask("ids_rate", n, a.seconds)
                    if got:
                        fixed[p.name][n].append(sum(got))
            rounds += 1
            say("round %d of %d, %.0f s so far" % (rounds, a.rounds, time.monotonic() - self.start))
        latency = self.latencies(peers)
        self.reference = next((n for n in ("torch fp32", "couplet fp32") if n in logits), None)
        reference = logits.get(self.reference)
        for p in peers:
            row = {"name": p.name, "version": p.version, "setting": p.setting, "reason": p.reason}
            if rates[p.name]:
                row["pairs_per_s"] = dict(spread(rates[p.name]), all=rates[p.name])
            row["ids_in"] = {str(n): spread(v) for n, v in fixed[p.name].items() if v}
            if p.name in latency:
                row["one_ms"] = latency[p.name]
            if reference and p.name in logits:
                row["agreement"] = agreement(reference, logits[p.name])
            self.rows.append(row)
            p.close()
        self.ratios(rates)

    def latencies(self, peers):
        """One pair at a time with all threads: a peer of several processes gets one of all threads for it."""
        out = {}
        for p in peers:
            if p.reason or not self.a.latency_length:
                continue
            own = p
            if p.spread > 1:
                name, engine, precision, more, _ = next(e for e in PEERS if e[0] == p.name)
                s, _ = self.settings(engine, precision, more)
                own = Peer(name, dict(s, batch=1, pad=1), 0, self.cpus)
            else:
                time.sleep(SLACK_S)
            got = own.ask("one_ms", self.a.latency_length, 200)
            if got:
                values = sorted(got[0])
                out[p.name] = {"p50": values[len(values) // 2], "p95": values[int(len(values) * 0.95)]}
            if own is not p:
                own.close()
        return out

    def ratios(self, rates):
        """couplet's first precision over each rival, round by round."""
        own = rates["couplet " + self.a.precisions.split(",")[0]]
        for row in self.rows:
            theirs = rates.get(row["name"])
            if own and theirs and not row["name"].startswith("couplet"):
                row["couplet_over"] = spread([x / y for x, y in zip(own, theirs)])  # of the rounds it took part in

    def document(self):
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True).stdout.strip()
        name = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
        return {"machine": "%s, %d of %d cores" % (name, len(self.cpus), os.cpu_count()), "commit": commit,
                "python": platform.python_version(), "pairs": "%s, first %d" % (os.path.basename(self.a.pairs), len(self.pairs)),
                "model": os.path.basename(os.path.normpath(self.a.model)), "lengths": self.lengths,
                "latency_length": self.a.latency_length, "reference": self.reference, "seconds": round(time.monotonic() - self.start),
                "rows": sorted(self.rows, key=lambda r: -r.get("pairs_per_s", {"median": 0})["median"])}


def table(doc):
    lengths = [str(n) for n in doc["lengths"]]
    head = ["", "text to scores, pairs/s", "couplet over it"] + ["ids in, S=" + n for n in lengths] + \
           ["one pair, S=%d, p50 / p95 ms" % doc["latency_length"], "Spearman", "max diff", "settings"]
    out = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 2) + "---|"]
    for r in doc["rows"]:
        if "pairs_per_s" not in r:
            out.append("| %s | did not run: %s |" % (r["name"], r["reason"]) + " |" * (len(head) - 2))
            continue
        w, over, one, fit = r["pairs_per_s"], r.get("couplet_over"), r.get("one_ms"), r.get("agreement")
        cells = [r["name"], "%.0f (%.0f-%.0f)" % (w["median"], w["min"], w["max"]),
                 "%.2f (%.2f-%.2f)" % (over["median"], over["min"], over["max"]) if over else ""]
        for n in lengths:
            v = r["ids_in"].get(n)
            cells.append("%.0f (%.0f-%.0f)" % (v["median"], v["min"], v["max"]) if v else "")
        cells += ["%.2f / %.2f" % (one["p50"], one["p95"]) if one else "",
                  "%.4f" % fit["spearman"] if fit else "", "%.4f" % fit["max_abs"] if fit else "",
                  "; ".join(t for t in (r["version"], r["setting"]) if t)]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", default=os.environ.get("COUPLET_DATA"), help="JSON lines of query and document; default $COUPLET_DATA")
    p.add_argument("--model", default=str(ROOT / "models" / "seeded-cross-encoder"))
    p.add_argument("--library", default=str(ROOT / "build" / "libcouplet.so"))
    p.add_argument("--precisions", default="int8,fp32", help="of couplet; ratios are the first one's")
    p.add_argument("--peers", help="only those whose names begin so, comma-separated; default all")
    p.add_argument("--threads", type=int, default=2, help="cores for each of them, in turn")
    p.add_argument("--cpus", metavar="N,N", help="which, where it matters that they aren't two threads of one core")
    p.add_argument("--count", type=int, default=1000, help="pairs")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0, help="for each fixed length, round and peer")
    p.add_argument("--lengths", default="17,32,128")
    p.add_argument("--latency-length", type=int, default=32, help="0: none")
    p.add_argument("--calibration", type=int, default=100, help="pairs that NNCF calibrates on")
    p.add_argument("--sweep", action="store_true", help="try all settings, not the best known")
    p.add_argument("--budget", type=float, default=1e9, help="no new round after this many seconds")
    p.add_argument("--json", metavar="FILE")
    a = p.parse_args()
    if not a.pairs:
        sys.exit("no pairs: give --pairs FILE or set COUPLET_DATA")
    b = Bench(a)
    b.run()
    doc = b.document()
    print("%s; commit %s; %s; Python %s\n" % (doc["machine"], doc["commit"] or "unknown", doc["pairs"], doc["python"]))
    print(table(doc))
    print("\nAgreement is with %s. fp32 rivals ran one round, as references." % (doc["reference"] or "nobody: no fp32 here"))
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(doc, indent=1) + "\n")


if __name__ == "__main__":
    main()
