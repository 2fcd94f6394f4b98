#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load, experiment and report as a user runs them, on the tiny golden models: servers started, driven, stopped and gone;
results and pages; a server that is up already; what can't run. Standard library only."""

import csv
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from signal import SIGTERM

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("COUPLET_PROGRAM", os.path.join(ROOT, "build", "couplet"))
MODELS = os.path.join(ROOT, "tests", "golden", "models")
MODEL = sorted(m for m in os.listdir(MODELS) if "cross" in m)[0] if os.path.isdir(MODELS) else None
EXPERIMENTS = os.path.join(ROOT, "experiments")


def run(*args, status=0, environment=None):
    done = subprocess.run([PROGRAM, *args], capture_output=True, timeout=300, cwd=ROOT,
                          env={**os.environ, **(environment or {})})
    if done.returncode != status:
        raise AssertionError(f"{args}: exit status {done.returncode}, expected {status}\n{done.stderr.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def servers_of(marker):
    """Processes whose command line holds the marker."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read()
        except OSError:
            continue
        if marker.encode() in line and b"serve" in line.split(b"\0"):
            found.append(pid)
    return found


@unittest.skipUnless(MODEL, "no golden models here")
class Experiments(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.dir = self.temporary.name
        with open(os.path.join(self.dir, "base_config.yaml"), "w") as f:
            f.write(f"model: {{name: {os.path.join(MODELS, MODEL)}}}\npin_workers: false\n"
                    "experiment: {warmup_iterations: 2, benchmark_requests: 40, duration: 20}\n")

    def tearDown(self):
        self.assertEqual(servers_of(self.dir), [])
        self.temporary.cleanup()

    def write(self, name, text):
        path = os.path.join(self.dir, name + ".yaml")
        with open(path, "w") as f:
            f.write(text)
        return path

    def result(self, name):
        with open(os.path.join(self.dir, "out", name + ".json")) as f:
            return json.load(f)

    def page(self, name):
        with open(os.path.join(self.dir, "out", name + ".md")) as f:
            return f.read()

    def out(self):
        return ["--output", os.path.join(self.dir, "out")]

    def test_rows_rounds_and_sweep(self):
        off = self.write("16a_off", "batching: {enabled: false}\nexperiment: {batch_sizes: [1, 4], "
                                    "concurrency_levels: [1, 3], repeats: 2}\n")
        timed = self.write("16b_timed", "batching: {max_batch_size: 8}\nexperiment: {batch_sizes: [1], "
                                        "concurrency_levels: [3], repeats: 2, sweep: {batching.timeout_ms: [1, 5]}}\n")
        printed, _ = run("experiment", "run", off, timed, *self.out())
        self.assertIn("16a_off: ran", printed)
        r = self.result("16a_off")
        self.assertEqual(r["status"], "ran")
        self.assertEqual(r["interleaved"], "16b_timed")
        self.assertEqual(r["backend"], "native")
        self.assertEqual(r["precision_effective"], "fp32")
        self.assertEqual([(p["batch"], p["concurrency"]) for p in r["points"]], [(1, 1), (1, 3), (4, 1), (4, 3)])
        for p in r["points"]:
            self.assertEqual(p["rounds"], 2)
            self.assertEqual(p["requests"], 80)
            self.assertEqual(p["pairs"], 80 * p["batch"])
            self.assertEqual(p["failed"], 0)
            self.assertEqual(p["in_flight_max"], p["concurrency"])
            self.assertTrue(p["server_known"])
            self.assertLessEqual(p["pass_sequences_mean"], p["batch"] + 1e-9)  # off: never joined
            self.assertAlmostEqual(p["sequences_per_pair"], 1, delta=0.2)
            self.assertGreater(p["throughput"], 0)
            self.assertEqual(len(p["round_throughput"]), 2)
        settings = [p["server"] for p in self.result("16b_timed")["points"]]
        self.assertEqual(settings, ["batching.timeout_ms=1", "batching.timeout_ms=5"])
        page = self.page("16b_timed")
        for words in ("| Setting | Batch | Conc | Pairs | Time (s) | Lat Avg | P95 | P99 | TP Avg | TP P95 |",
                      "## Key findings", "up to 8 pairs", "Effective configuration", "couplet experiment run"):
            self.assertIn(words, page)
        run("report", "--results", os.path.join(self.dir, "out"), "--experiments", os.path.join(self.dir, "exp"))
        summary = self.page("summary")
        for words in ("## Executive summary", "## Throughput comparison", "## Latency comparison",
                      "## Platform x precision", "## Recommendations", "## Next steps", "rounds alternated"):
            self.assertIn(words, summary)
        with open(os.path.join(self.dir, "exp", "README.md")) as f:
            self.assertIn("**winner**", f.read())
        with open(os.path.join(self.dir, "out", "index.html")) as f:
            page = f.read()
        for words in ("Where a request's time goes", "16b_timed", "Where these numbers come from"):
            self.assertTrue(words in page, words)
        with open(os.path.join(self.dir, "out", "rows.csv"), newline="") as f:
            rows = list(csv.DictReader(f))
        with open(os.path.join(self.dir, "out", "rows.json")) as f:
            self.assertEqual(len(json.load(f)["rows"]), len(rows))
        self.assertEqual([(r["experiment"], r["setting"], r["batch"]) for r in rows][-2:],
                         [("16b_timed", "batching.timeout_ms=1", "1"), ("16b_timed", "batching.timeout_ms=5", "1")])
        self.assertGreater(float(rows[0]["pairs_per_s"]), 0)

    def test_figures_of_the_markdown(self):
        sizes = self.write("05_sizes", "model: {backend: fake}\nexperiment: {batch_sizes: [1, 2, 4], benchmark_requests: 20}\n")
        run("experiment", "run", sizes, *self.out())
        report = ["report", "--results", os.path.join(self.dir, "out"), "--experiments", os.path.join(self.dir, "exp")]
        printed, _ = run(*report, environment={"PATH": "/nowhere"})
        self.assertIn("gnuplot is not installed", printed)
        self.assertNotIn("plots/", self.page("05_sizes"))
        if not shutil.which("gnuplot"):
            self.skipTest("gnuplot isn't here: the figures themselves were not made")
        printed, _ = run(*report)
        self.assertNotIn("gnuplot", printed)
        self.assertIn("![05_sizes](plots/05_sizes.svg)", self.page("05_sizes"))
        with open(os.path.join(self.dir, "out", "plots", "05_sizes.svg")) as f:
            self.assertIn("Throughput, pairs/s", f.read())
        with open(os.path.join(self.dir, "out", "plots", "05_sizes.png"), "rb") as f:
            self.assertEqual(f.read(4), b"\x89PNG")

    def test_what_cannot_run_does_not_stop_the_others(self):
        absent = self.write("01_absent", "model: {backend: mps}\n")
        wrong = self.write("02_precision", "model: {precision: fp8}\n")
        missing = self.write("03_model", "model: {name: nobody/nothing}\n")
        broken = self.write("05_broken", "model: {backend: fake, fake: {fail_load: 1}}\n")
        good = self.write("04_good", "experiment: {concurrency_levels: [2]}\n")
        printed, _ = run("experiment", "run", absent, wrong, missing, broken, good, "--quick", *self.out(), status=1)
        self.assertEqual(self.result("01_absent")["status"], "not run")
        self.assertIn("mps", self.result("01_absent")["reason"])
        self.assertEqual(self.result("02_precision")["status"], "not run")
        self.assertIn("fp8", self.result("02_precision")["reason"])
        self.assertEqual(self.result("03_model")["status"], "not run")
        self.assertIn("nobody/nothing", self.result("03_model")["reason"])
        self.assertEqual(self.result("05_broken")["status"], "failed")
        r = self.result("04_good")
        self.assertEqual(r["status"], "ran")
        self.assertTrue(r["quick"])
        self.assertIn("--quick: too short to publish", self.page("04_good"))
        self.assertIn("not run", printed)
        run("experiment", "run", absent, "--quick", "--set", "model.backend=native", *self.out())
        r = self.result("01_absent")
        self.assertEqual((r["status"], r["backend_asked"], r["backend"]), ("ran", "mps", "native"))
        self.assertIn("ran (--quick: too short to publish) (`mps` asked for, `native` ran) with an override: "
                      "`--set model.backend=native`", self.page("01_absent"))

    def test_against_a_server_that_is_up(self):
        plain = self.write("01_plain", "experiment: {concurrency_levels: [2]}\n")
        sweep = self.write("02_sweep", "experiment: {sweep: {workers: [1, 2]}}\n")
        server = subprocess.Popen([PROGRAM, "serve", "--experiment", plain, "--listen", "127.0.0.1:0"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            address = re.match(r"listening on (\S+)", server.stdout.readline()).group(1)
            run("experiment", "run", plain, "--target", address, *self.out())
            r = self.result("01_plain")
            self.assertEqual(r["target"], address)
            self.assertEqual(r["points"][0]["requests"], 40)
            self.assertIn("pin_workers: false", r["config"])
            _, error = run("experiment", "run", sweep, "--target", address, *self.out(), status=2)
            self.assertIn("sweeps 'workers'", error)

            printed, _ = run("load", "--target", address, "--requests", "50", "--concurrency", "4", "--json")
            r = json.loads(printed)
            self.assertEqual((r["requests"], r["failed"], r["in_flight_max"]), (50, 0, 4))
            self.assertTrue(r["server"]["known"])
            printed, _ = run("load", "--target", address, "--requests", "20", "--pairs-per-request", "3")
            self.assertIn("throughput", printed)
            self.assertIn("verdict", printed)
            printed, _ = run("load", "--target", address, "--requests", "5", "--pairs-per-request", "1001", status=1)
            self.assertIn("INVALID_ARGUMENT x", printed)
            printed, _ = run("load", "--target", address, "--dialect", "tei", "--requests", "40", "--pairs-per-request", "3",
                             "--concurrency", "4", "--json")
            r = json.loads(printed)
            self.assertEqual((r["requests"], r["failed"], r["server"]["known"]), (40, 0, False))
            self.assertGreater(r["selftest"]["requests_per_s"], 0)
            _, error = run("load", "--target", address, "--scenario", "poisson", status=2)
            self.assertIn("'poisson' needs --rate", error)
            out, _ = run("load", "--target", address, "--scenario", "poisson", "--rate", "200", "--requests", "60", "--slo",
                         "100000", "--json")
            result = json.loads(out)
            self.assertEqual((result["scenario"], result["requests"], result["within_slo"]), ("poisson", 60, 1))
            self.assertGreater(result["offered_per_s"], 0)
            env = {"COUPLET": PROGRAM, "TARGET": address}
            done = subprocess.run([os.path.join(ROOT, "run_client.sh"), "--experiment", "--config", plain, "--quick",
                                   *self.out()], env={**os.environ, **env}, capture_output=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
        finally:
            server.send_signal(SIGTERM)
            self.assertEqual(server.wait(60), 0)
            server.stdout.close()

    def test_a_run_goes_on_where_it_stopped(self):
        os.mkdir(os.path.join(self.dir, "experiments"))
        os.rename(os.path.join(self.dir, "base_config.yaml"), os.path.join(self.dir, "experiments", "base_config.yaml"))
        first = self.write("experiments/01_first", "model: {backend: fake, fake: {fixed_us: 3000}}\nexperiment: {repeats: 5}\n")
        self.write("experiments/02_second", "model: {backend: fake}\nexperiment: {sweep: {workers: [1, 4096]}}\n")

        def all_of_them(*more):
            done = subprocess.run([PROGRAM, "experiment", "run", "all", *more], capture_output=True, timeout=300,
                                  cwd=self.dir, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        def file(name):
            return os.path.join(self.dir, "docs", "experiments", name)

        self.assertNotIn("kept", all_of_them("--quick"))
        self.assertEqual(all_of_them("--quick").count("kept: measured"), 2)
        self.assertNotIn("kept", all_of_them())  # a quick result doesn't stand for a full one
        with open(file("02_second.json")) as f:
            rows = json.load(f)["points"]
        self.assertEqual([r["requests"] > 0 for r in rows], [True, False])
        self.assertIn("cores for 4096 workers", rows[1]["not_run"])
        self.assertEqual(all_of_them().count("kept: measured"), 2)
        self.assertEqual(all_of_them("--quick").count("kept: measured"), 2)
        os.remove(file("02_second.json"))
        printed = all_of_them()
        self.assertIn("01_first: kept", printed)
        self.assertNotIn("02_second: kept", printed)
        with open(first, "a") as f:
            f.write("batching: {enabled: false}\n")
        self.assertNotIn("01_first: kept", all_of_them())
        self.assertNotIn("kept", all_of_them("--force"))

        def compare(*args, status=0):
            return run("experiment", "compare", *args, status=status)[0]

        one = file("01_first.json")
        self.assertIn("0 regressions", compare(one, one))
        self.assertIn("no difference", compare(one, one))
        with open(one) as f:
            document = json.load(f)
        good, worse = os.path.join(self.dir, "good.json"), os.path.join(self.dir, "worse.json")
        for path, factor in ((good, 1), (worse, 0.5)):  # rounds as given: this machine's noise has no part in it
            for p in document["points"]:
                p["round_throughput"] = [factor * v for v in (100, 101, 99, 102, 98)]
            with open(path, "w") as f:
                json.dump(document, f)
        self.assertIn("REGRESSION", compare(good, worse, status=1))
        self.assertIn("better", compare(worse, good))
        told = json.loads(compare(good, worse, "--json", status=1))
        self.assertAlmostEqual(told["rows"][0]["throughput"]["ratio"], 0.5)
        self.assertEqual(told["rows"][0]["throughput"]["verdict"], "worse")
        self.assertEqual(json.loads(compare(good, worse, "--json", "--threshold", "60"))["regressions"], 0)
        compare(one, file("02_second.json"), status=1)  # no row in common: a gate that compared nothing doesn't pass

    def test_options_of_the_generator(self):
        slow = "model: {backend: fake, fake: {fixed_us: 2000, per_token_ns: 0}}\nbatching: {enabled: false}\nworkers: 1\n"
        files = [
            # Over another API, whose requests are one query each; what the server is comes over gRPC all the same.
            self.write("tei", slow + "experiment: {dialect: tei, batch_sizes: [1, 3], concurrency_levels: [2], "
                                     "warmup_stable: true}\n"),
            # Ends long before its requests, since the objective plainly holds.
            self.write("early", slow + "experiment: {scenario: poisson, rate: [50], batch_sizes: [1], slo_ms: 2000, slo_percentile: 50, "
                                       "early_stop: true, benchmark_requests: 100000}\n"),
            # Twice what one worker of 20 ms takes.
            self.write("beyond", slow.replace("2000,", "20000,") +
                       "experiment: {scenario: constant, rate: [100], batch_sizes: [1], benchmark_requests: 400}\n"),
            # 0.4 s a request of one pair: a hundred of them aren't begun.
            self.write("patience", slow.replace("2000,", "400000,") +
                       "experiment: {batch_sizes: [1], concurrency_levels: [1, 100], duration: 2}\n"),
        ]
        plan = json.loads(run("experiment", "run", *files, *self.out(), "--dry-run", "--json")[0])
        self.assertEqual([e["what"] for e in plan["experiments"]], ["run"] * 4)
        self.assertTrue(plan["seconds"] > 60)
        self.assertFalse(os.path.exists(os.path.join(self.dir, "out")))
        run("experiment", "run", *files, *self.out())
        tei = self.result("tei")
        self.assertEqual([(p["requests"], p["failed"], p["server_known"]) for p in tei["points"]], [(40, 0, False)] * 2)
        self.assertEqual((tei["backend"], tei["workers"]), ("fake", 1))
        early = self.result("early")["points"][0]
        self.assertTrue(20 <= early["requests"] < 2000 and early["asked"] == 100000)
        beyond = self.result("beyond")["points"][0]
        self.assertTrue(beyond["beyond_capacity"] and 30 < beyond["throughput"] <= 51, beyond["reasons"])
        self.assertEqual(beyond["highest_percentile"], 0)
        self.assertIn("INVALID: ", beyond["percentile_verdicts"]["p50"])
        first, second = self.result("patience")["points"]
        self.assertTrue(first["requests"] >= 4)
        self.assertIn("can't hold enough", second["not_run"])
        run("report", "--results", os.path.join(self.dir, "out"), "--experiments", self.dir)
        with open(os.path.join(self.dir, "out", "rows.csv"), newline="") as f:
            rows = {r["experiment"]: r for r in csv.DictReader(f)}
        self.assertEqual(rows["beyond"]["beyond_capacity"], "yes")
        self.assertTrue(rows["beyond"]["latency_p99_verdict"].startswith("INVALID"))
        self.assertIn("beyond capacity", self.page("beyond"))

    def test_several_models_and_parts_of_the_work(self):
        path = os.path.join(MODELS, MODEL)
        two = self.write("07c_two", f"models: [{{name: one, path: {path}}}, {{name: other, path: {path}}}]\n"
                                    "experiment: {batch_sizes: [2], concurrency_levels: [1, 2]}\n")
        ids = self.write("15a_ids", "experiment: {mode: tokenize, batch_sizes: [3]}\n")
        passes = self.write("15b_passes", "experiment: {mode: inference, batch_sizes: [2], warmup_iterations: 10}\n")
        padded = self.write("12_padded", "model: {backend: fake, fake: {rectangles: 1, fixed_us: 500}}\n"
                                         "batching: {policy: greedy}\n"
                                         "experiment: {batch_sizes: [8], concurrency_levels: [2]}\n")
        run("experiment", "run", two, ids, passes, padded, *self.out())
        rows = self.result("07c_two")["points"]
        self.assertEqual([(r["server"], r["concurrency"]) for r in rows],
                         [("model=one", 1), ("model=other", 1), ("model=one", 2), ("model=other", 2)])
        for r in rows:
            self.assertEqual((r["requests"], r["failed"], r["server_known"]), (40, 0, False))
        r = self.result("15a_ids")
        self.assertEqual((r["mode"], r["points"][0]["failed"], r["points"][0]["requests"]), ("tokenize", 0, 40))
        self.assertEqual(r["points"][0]["passes"], 0)
        self.assertIn("a part of the work only", self.page("15a_ids"))
        r = self.result("15b_passes")["points"][0]
        self.assertEqual((r["failed"], r["requests"]), (0, 40))
        self.assertNotIn("were tokenized", r["reasons"])
        r = self.result("12_padded")["points"][0]
        self.assertTrue(r["padding_known"])
        self.assertTrue(0 < r["pass_padding"] < 0.9)

    def test_own_pairs(self):
        data = os.path.join(self.dir, "pairs.jsonl")
        with open(data, "w") as f:
            for i in range(30):
                f.write(json.dumps({"query": f"q {i}", "document": f"text {i}"}) + "\n")
        file = self.write("01_pairs", "experiment: {batch_sizes: [2]}\n")
        run("experiment", "run", file, *self.out(), environment={"COUPLET_DATA": data})
        r = self.result("01_pairs")
        self.assertEqual(r["pairs_source"], "pairs.jsonl (30 pairs), seed 1")
        self.assertGreater(r["points"][0]["repeats"], 40)

    def test_list_and_check(self):
        printed, _ = run("experiment", "list", "--json")
        names = [e["name"] for e in json.loads(printed)["experiments"]]
        for n in ("01_backend_pytorch", "01_backend_native", "05a_batch_size_mps", "16d_dynamic_batch_high_concurrency"):
            self.assertIn(n, names)
        printed, _ = run("experiment", "check")
        self.assertIn(f"{len(names)} experiments are good, 0 are not", printed)
        wrong = self.write("01_wrong", "batching: {max_bach_size: 3}\n")
        _, error = run("experiment", "check", wrong, status=1)
        self.assertIn("max_batch_size", error)  # the nearest key


if __name__ == "__main__":
    unittest.main()
