#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The file commands as a user runs them: score, embed, tokenize, doctor, bench engine, kernel and quality, help; good input and bad.
Standard library only; models and expected numbers from tests/golden."""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("COUPLET_PROGRAM", os.path.join(ROOT, "build", "couplet"))
MODELS = os.path.join(ROOT, "tests", "golden", "models")


def run(*args, data=b"", status=0):
    done = subprocess.run([PROGRAM, *args], input=data, capture_output=True, timeout=300)
    if done.returncode != status:
        raise AssertionError(f"{args}: exit status {done.returncode}, expected {status}\n{done.stderr.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def golden(name):
    with open(os.path.join(ROOT, "tests", "golden", name + ".json")) as f:
        return [c for c in json.load(f)["cases"] if "final" in c]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def jsonl(records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


class Files(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.dir = self.temporary.name

    def tearDown(self):
        self.temporary.cleanup()

    def put(self, name, data):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def model(self, name):
        return os.path.join(MODELS, name)


class Score(Files):
    def test_scores_are_the_golden_ones(self):
        cases = golden("cross-encoder")
        data = jsonl({"query": c["query"], "document": c["document"]} for c in cases)
        out, _ = run("score", "--model", self.model("cross-encoder"), "--format", "jsonl", data=data)
        got = lines(out)
        self.assertEqual([g["index"] for g in got], list(range(len(cases))))
        for g, c in zip(got, cases):
            self.assertAlmostEqual(g["score"], c["final"][0] if isinstance(c["final"], list) else c["final"], delta=1e-5)
        raw, _ = run("score", "--model", self.model("cross-encoder"), "--format", "jsonl", "--raw-scores", data=data)
        for g, c in zip(lines(raw), cases):
            self.assertAlmostEqual(g["score"], c["row"][0], delta=1e-4)

    def test_several_labels(self):
        data = b"one\ttwo\n"
        out, _ = run("score", "--model", self.model("cross-encoder-3-labels"), data=data)
        scores = lines(out)[0]["scores"]
        self.assertEqual(len(scores), 3)
        out, _ = run("score", "--model", self.model("cross-encoder-3-labels"), "--label", "2", data=data)
        self.assertEqual(lines(out)[0]["score"], scores[2])
        _, err = run("score", "--model", self.model("cross-encoder-3-labels"), "--label", "3", data=data, status=2)
        self.assertIn("3 labels", err)

    def test_compressed_input_and_threads_change_nothing(self):
        data = b"".join(b"query %d\tthe document number %d of them\n" % (i % 7, i) for i in range(3000))
        plain, _ = run("score", "--model", self.model("cross-encoder"), data=data)
        self.assertEqual(len(plain.splitlines()), 3000)
        packed = self.put("pairs.tsv.gz", gzip.compress(data))
        for threads in "1", "2", "3":
            out, _ = run("score", "--model", self.model("cross-encoder"), "--input", packed, "--threads", threads)
            self.assertEqual(out, plain)

    def test_resume_continues_where_it_stopped(self):
        data = b"".join(b"q%d\tdocument %d\n" % (i, i) for i in range(2500))
        source = self.put("pairs.tsv", data)
        target = os.path.join(self.dir, "scores.jsonl")
        args = ["score", "--model", self.model("cross-encoder"), "--input", source, "--output", target]
        run(*args)
        with open(target) as f:
            whole = f.read()
        os.unlink(target)
        self.put("scores.jsonl.part", (whole[: len(whole) // 2]).encode())  # ends inside a line
        _, err = run(*args, status=1)
        self.assertIn("--resume", err)
        _, err = run(*args, "--resume")
        self.assertIn("resuming behind", err)
        with open(target) as f:
            self.assertEqual(f.read(), whole)
        self.assertFalse(os.path.exists(target + ".part"))
        self.put("scores.jsonl.part", whole.encode() * 2)
        _, err = run(*args, "--resume", status=1)
        self.assertIn("same input", err)

    def test_many_blocks_keep_order_and_the_first_failure_is_named(self):
        good = b"".join(b"query %d\tdocument %d\n" % (i % 11, i * i) for i in range(9000))
        target = os.path.join(self.dir, "out.jsonl")
        args = ["score", "--backend", "fake", "--model", self.model("cross-encoder"), "--output", target]
        run(*args, data=good)
        with open(target) as f:
            whole = f.read()
        self.assertEqual([g["index"] for g in lines(whole)], list(range(9000)))
        one = b"".join(good.splitlines(True)[4000:4003])
        out, _ = run(*args[:-2], data=one)
        self.assertEqual([g["score"] for g in lines(out)], [g["score"] for g in lines(whole)[4000:4003]])
        os.unlink(target)
        bad = good.splitlines(True)
        bad[5000] = bad[7000] = b"no tab\n"
        _, err = run(*args, data=b"".join(bad), status=2)
        self.assertIn("standard input:5001:", err)
        with open(target + ".part") as f:
            part = f.read()
        self.assertEqual(len(part.splitlines()), 4096)  # the blocks before it, whole
        self.assertTrue(whole.startswith(part))
        run(*args, "--resume", data=good)
        with open(target) as f:
            self.assertEqual(f.read(), whole)

    def test_a_failure_does_not_wait_for_the_rest_of_a_pipe(self):
        args = [PROGRAM, "score", "--backend", "fake", "--model", self.model("cross-encoder")]
        with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
            p.stdin.write(b"no tab\n" + b"q\td\n" * 1023)
            p.stdin.flush()
            self.assertEqual(p.wait(timeout=60), 2)  # the pipe is still open
            self.assertIn(b"standard input:1:", p.stderr.read())

    def test_bad_bytes_are_counted_and_bad_records_refused(self):
        out, err = run("score", "--model", self.model("cross-encoder"), data=b"a\xff\xffb\tc\n")
        self.assertEqual(len(lines(out)), 1)
        self.assertIn("2 invalid UTF-8", err)
        _, err = run("score", "--model", self.model("cross-encoder"), data=b"a\tb\nno tab\n", status=2)
        self.assertIn("standard input:2:", err)
        out, _ = run("score", "--model", self.model("cross-encoder"), data=b"\t\n")
        self.assertEqual(len(lines(out)), 1)
        out, _ = run("score", "--model", self.model("cross-encoder"), data=b"")
        self.assertEqual(out, "")

    def test_what_is_not_there_is_named(self):
        for args, says in (
            (["--model", "no/such/model"], "no/such/model"),
            (["--model", self.model("cross-encoder"), "--input", "no/such.tsv"], "no/such.tsv"),
            (["--model", self.model("cross-encoder"), "--backend", "mlx"], "mlx"),
            (["--model", self.model("cross-encoder"), "--precision", "fp8"], "fp8"),
            (["--model", self.model("cross-encoder"), "--precision", "int9"], "int9"),
            (["--modle", "x"], "--model"),
        ):
            done = subprocess.run([PROGRAM, "score", *args], input=b"a\tb\n", capture_output=True, timeout=60)
            self.assertNotEqual(done.returncode, 0, args)
            self.assertEqual(done.stdout, b"")
            self.assertIn(says, done.stderr.decode())
            self.assertEqual(len(done.stderr.decode().strip().splitlines()), 1, done.stderr.decode())

    def test_a_substituted_precision_is_said(self):
        out, err = run("score", "--model", self.model("cross-encoder"), "--precision", "fp8", "--fallback", data=b"a\tb\n")
        self.assertIn("fp8 requested, int8 runs", err)
        self.assertEqual(len(lines(out)), 1)


class Embed(Files):
    def test_vectors_are_the_golden_ones(self):
        for name in "embedder-mean", "embedder-cls", "embedder-max":
            cases = golden(name)
            out, _ = run("embed", "--model", self.model(name), "--format", "jsonl", data=jsonl({"text": c["text"]} for c in cases))
            for g, c in zip(lines(out), cases):
                for x, y in zip(g["embedding"], c["final"]):
                    self.assertAlmostEqual(x, y, delta=2e-5)

    def test_cosine_is_the_score(self):
        a, b = "a small text", "another text, not so small"
        out, _ = run("embed", "--model", self.model("embedder-mean"), data=f"{a}\n{b}\n".encode())
        u, v = (g["embedding"] for g in lines(out))
        out, _ = run("score", "--model", self.model("embedder-mean"), data=f"{a}\t{b}\n".encode())
        self.assertAlmostEqual(lines(out)[0]["score"], sum(x * y for x, y in zip(u, v)), delta=1e-6)

    def test_a_cross_encoder_has_none(self):
        _, err = run("embed", "--model", self.model("cross-encoder"), data=b"x\n", status=1)
        self.assertIn("cross-encoder", err)


class Tokenize(Files):
    def test_ids_are_the_golden_ones(self):
        cases = golden("cross-encoder")
        data = jsonl({"query": c["query"], "document": c["document"]} for c in cases)
        out, _ = run("tokenize", "--model", self.model("cross-encoder"), "--pair", "--format", "jsonl", data=data)
        for g, c in zip(lines(out), cases):
            self.assertEqual(g, {"ids": c["ids"], "type_ids": c["type_ids"]})

    def test_truncation(self):
        text = b"word " * 500 + b"\n"
        lengths = {}
        for limit in "0", "10", None:
            args = ["--max-length", limit] if limit else []
            out, _ = run("tokenize", "--model", self.model("embedder-mean"), *args, data=text)
            lengths[limit] = len(lines(out)[0]["ids"])
        self.assertEqual(lengths["10"], 10)
        self.assertEqual(lengths[None], 64)  # sentence_bert_config.json
        self.assertGreaterEqual(lengths["0"], 502)
        _, err = run("tokenize", "--model", self.model("embedder-mean"), "--max-length", "1", data=text, status=2)
        self.assertIn("max", err)


class Others(Files):
    def test_doctor(self):
        out, _ = run("doctor", "--json")
        found = json.loads(out)
        backends = {b["name"]: b for b in found["backends"]}
        self.assertTrue(backends["native"]["available"])
        self.assertLessEqual({"fp32", "bf16", "fp16", "int8", "int4"}, set(backends["native"]["precisions"]))
        for name in "cuda", "onnx", "pytorch", "compiled", "mlx", "mps", "openvino":
            self.assertTrue(backends[name]["available"] or backends[name]["reason"], name)
        self.assertGreater(found["peak"]["fp32_ops_per_s"], 1e9)
        self.assertIn(found["isa"], run("doctor", "--no-peak", "--no-run")[0])

    def test_doctor_runs_what_it_promises(self):
        found = json.loads(run("doctor", "--no-peak", "--json", "--model", self.model("cross-encoder"))[0])
        self.assertEqual(found["ran_tokens"], 32)
        ran = {b["name"]: b for b in found["backends"]}
        self.assertEqual(set(ran["native"]["sequences_per_s"]), set(ran["native"]["precisions"]))
        self.assertTrue(all(v > 0 for v in ran["native"]["sequences_per_s"].values()))
        for b in found["backends"]:  # a cell is a figure, or refused with a reason; a test double has neither
            if b["available"] and b["name"] != "fake":
                self.assertEqual(set(b["sequences_per_s"]), set(b["precisions"]), b["name"])
                self.assertTrue(all(b["refused"].values()), b["name"])
        still = json.loads(run("doctor", "--no-peak", "--no-run", "--json")[0])
        self.assertEqual({n: b["sequences_per_s"] for n, b in ((b["name"], b) for b in still["backends"])}["native"], {})
        done = subprocess.run([PROGRAM, "doctor", "--model", "no/such"], capture_output=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)

    def test_isa_mask(self):
        env = dict(os.environ, COUPLET_ISA="ref")
        done = subprocess.run([PROGRAM, "doctor", "--no-peak", "--no-run", "--json"], env=env, capture_output=True, timeout=60)
        self.assertEqual(json.loads(done.stdout)["isa"], "ref")
        env["COUPLET_ISA"] = "avx9"
        done = subprocess.run([PROGRAM, "doctor", "--no-peak"], env=env, capture_output=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("avx9", done.stderr.decode())

    def test_bench_engine(self):
        out, _ = run("bench", "engine", "--model", self.model("cross-encoder"), "--lengths", "5,104", "--seconds", "0.2", "--json")
        results = json.loads(out)["results"]
        self.assertEqual([r["length"] for r in results], [5, 104])
        for r in results:
            for key in ("pairs_per_s", "tokens_per_s", "useful_ops_per_s", "nominal_ops_per_s", "peak_ops_per_s", "peak_rest_ops_per_s", "efficiency"):
                self.assertGreater(r[key], 0, key)
            self.assertGreaterEqual(r["nominal_ops_per_s"], r["useful_ops_per_s"])
            self.assertEqual(r["precision"], {"requested": "fp32", "effective": "fp32"})
            self.assertLessEqual(r["efficiency_min"], r["efficiency"])
            self.assertLessEqual(r["samples_marked"], r["samples"])
            self.assertGreater(r["cpu_share"], 0)
            stages = {s["name"]: s for s in r["stages"]}
            self.assertLessEqual({"embed", "qkv", "attention", "out", "ffn1", "ffn2", "norms", "head"}, set(stages))
            self.assertAlmostEqual(sum(s["share"] for s in stages.values()), 1, places=6)
            self.assertGreater(stages["ffn1"]["of_peak"], 0)
        self.assertIn("fp32", json.loads(out)["peak"])
        check = json.loads(out)["peak_check"]
        self.assertGreater(check["instructions_per_cycle"], 0)
        if check["expected"]:
            self.assertAlmostEqual(check["ratio"], check["instructions_per_cycle"] / check["expected"], places=9)
            self.assertEqual(check["within_3_percent"], abs(check["ratio"] - 1) <= 0.03)
        out, _ = run("bench", "engine", "--model", self.model("cross-encoder"), "--mix", "--no-stages", "--seconds", "0.1", "--json")
        (mix,) = json.loads(out)["results"]
        self.assertEqual(mix["length"], "mix")
        self.assertNotIn("stages", mix)
        out, _ = run("bench", "engine", "--model", self.model("cross-encoder"), "--lengths", "30", "--seconds", "0.2", "--precision", "int8", "--json")
        self.assertIn("int8", json.loads(out)["peak"])
        self.assertEqual(json.loads(out)["results"][0]["precision"], {"requested": "int8", "effective": "int8"})
        _, err = run("bench", "engine", "--model", self.model("cross-encoder"), "--lengths", "105", status=2)
        self.assertIn("104", err)

    def quality(self, *args):
        return json.loads(run("bench", "quality", *args, "--json")[0])

    def test_bench_tokenizer(self):
        args = ("bench", "tokenizer", "--model", self.model("cross-encoder"), "--seconds", "0.05", "--json")
        for threads in "1", "3":
            got = json.loads(run(*args, "--megabytes", "0.1", "--threads", threads)[0])
            self.assertEqual([r["text"] for r in got["results"]], ["english", "accented", "cjk", "hangul"])
            for r in got["results"]:
                self.assertTrue(1e5 <= r["bytes"] < 1.02e5 and 0 < r["ids"] < r["bytes"])
                self.assertTrue(0 < r["mb_per_s_min"] <= r["mb_per_s"] <= r["mb_per_s_max"] and r["repeats"] >= 5)
        path = os.path.join(self.dir, "text.txt")
        run("bench", "tokenizer", "--text", "cjk", "--megabytes", "0.1", "--write", path)
        written = json.loads(run(*args, "--input", path)[0])["results"][0]
        self.assertEqual((written["bytes"], written["ids"]), (got["results"][2]["bytes"], got["results"][2]["ids"]))
        for wrong in ("--text", "greek"), ("--threads", "0"), ("--megabytes", "0"), ("--write", path), ("--input", path, "--text", "cjk"):
            run(*args, *wrong, status=2)

    def test_bench_kernel(self):
        out, _ = run("bench", "kernel", "--isa", "all", "--kernel", "gemm", "--seconds", "0.001", "--json")
        results = json.loads(out)["results"]
        self.assertIn("ref", {r["isa"] for r in results})
        self.assertLessEqual({"gemm_f32", "gemm_i8"}, {r["kernel"] for r in results})
        for r in results:
            self.assertGreater(r["ops_per_s"], 0)
            self.assertGreater(r["peak_ops_per_s"], 0)
            self.assertAlmostEqual(r["efficiency"], r["ops_per_s"] / r["peak_ops_per_s"])
        out, _ = run("bench", "kernel", "--isa", "ref", "--kernel", "softmax", "--seconds", "0.001", "--json")
        [r] = json.loads(out)["results"]
        self.assertEqual((r["isa"], r["kernel"], r["ops_per_s"], r["peak"]), ("ref", "softmax_f32", None, None))
        self.assertGreater(r["elements_per_s"], 0)
        self.assertIn("softmax_f32", run("bench", "kernel", "--kernel", "softmax", "--seconds", "0.001")[0])
        self.assertIn("no kernel", run("bench", "kernel", "--kernel", "nothing", status=2)[1])
        self.assertIn("sse9", run("bench", "kernel", "--isa", "sse9", status=2)[1])

    def test_bench_quality_of_a_cross_encoder(self):
        path = self.put("pairs.jsonl", jsonl({"query": f"how long is road {i}", "document": f"Road {i * 7} is {i} miles of {'very ' * (i % 5)}bad way."}
                                             for i in range(60)))
        got = self.quality("--model", self.model("cross-encoder"), "--pairs", path, "--precision", "int8", "--ranked", "9")
        self.assertEqual((got["pair_count"], got["ranked_queries"], got["candidates"]), (60, 9, 20))
        fp32, int8 = got["results"]
        self.assertEqual([r["precision"]["effective"] for r in (fp32, int8)], ["fp32", "int8"])
        for key, value in {"spearman": 1, "kendall": 1, "max_abs": 0, "mean_abs": 0, "ndcg10": 1}.items():
            self.assertEqual(fp32[key], value, key)
        self.assertEqual(fp32["over_fp32"]["mean"], 1)
        # Not the same numbers, or fp32 ran twice; and far from unrelated ones.
        self.assertGreater(int8["max_abs"], int8["mean_abs"])
        self.assertGreater(int8["mean_abs"], 0)
        self.assertLess(int8["max_abs"], 0.7)
        self.assertTrue(0.8 < int8["spearman"] < 1 or int8["kendall"] == 1, int8)
        self.assertAlmostEqual(int8["max_abs_over_deviation"], int8["max_abs"] / fp32["fp32_deviation"], places=9)
        self.assertGreater(int8["pairs_per_s"], 0)
        for key in "cosine_mean", "cosine_min":
            self.assertIsNone(int8[key])
        # The scores compared are those of `couplet score`.
        scores = {p: [l["score"] for l in lines(run("score", "--model", self.model("cross-encoder"), "--input", path, "--raw-scores", "--precision", p)[0])]
                  for p in ("fp32", "int8")}
        differences = [abs(a - b) for a, b in zip(scores["fp32"], scores["int8"])]
        self.assertAlmostEqual(int8["max_abs"], max(differences), delta=1e-6)
        self.assertAlmostEqual(int8["mean_abs"], sum(differences) / 60, delta=1e-6)

    def test_bench_quality_of_an_embedder_and_of_a_head_that_means_nothing(self):
        got = self.quality("--model", self.model("embedder-mean"), "--count", "40", "--precision", "int8,int8")
        self.assertEqual([r["precision"]["effective"] for r in got["results"]], ["fp32", "int8", "int8"])
        fp32, int8, again = got["results"]
        self.assertEqual(fp32["cosine_min"], 1)
        self.assertTrue(0.9 < int8["cosine_min"] <= int8["cosine_mean"] < 1, int8)
        self.assertTrue(0 <= int8["mrr10"] <= 1 and 0 < int8["ndcg10"] <= 1, int8)
        for key in int8:  # two sessions of one precision give the same bits
            if key not in ("pairs_per_s", "over_fp32"):
                self.assertEqual(int8[key], again[key], key)
        noted = self.put("noted", b"")
        os.remove(noted)
        shutil.copytree(self.model("cross-encoder"), noted)
        config = os.path.join(noted, "config.json")
        with open(config) as f:
            changed = json.load(f)
        for note, missing in ("a head from a seed", True), ("", False):
            with open(config, "w") as f:
                json.dump(dict(changed, couplet_note=note), f)
            got = self.quality("--model", noted, "--count", "25", "--ranked", "3")
            self.assertEqual(got["results"][1]["mrr10"] is None, missing)
            self.assertEqual(got["mrr10_missing"], note or None)

    def test_calibrate_writes_what_auto_loads(self):
        model = os.path.join(self.dir, "model")
        shutil.copytree(self.model("cross-encoder"), model)
        cases = [c for c in golden("cross-encoder") if not re.search(r"[\t\r\n]", c["query"] + c["document"])]
        texts = [f"{a['query']} {i}\t{b['document']}" for i, a in enumerate(cases) for b in cases[:4]]
        pairs = self.put("pairs.tsv", "".join(t + "\n" for t in texts).encode())
        data = jsonl({"query": c["query"], "document": c["document"]} for c in cases)

        def score(keep, status=0, precision="int8"):
            args = ["score", "--model", model, "--format", "jsonl", "--precision", precision, "--settings", f"keep={keep}"]
            out, err = run(*args, data=data, status=status)
            return err if status else out

        self.assertIn("couplet calibrate", score("auto", status=1))
        score("auto", precision="fp32")  # keeps nothing by any choice
        args = ["--model", model, "--pairs", pairs, "--count", "0"]
        out, _ = run("calibrate", *args, "--goal", "0.00001", "--by", "spearman")
        self.assertIn("keeps none", out)
        self.assertEqual(score("auto"), score("none"))
        run("calibrate", *args, "--better", "fp32", "--goal", "1", status=1)  # the word table stays int8
        with open(os.path.join(model, "couplet_keep.json")) as f:
            file = json.load(f)
        self.assertEqual([c["keep"] for c in file["choices"]], ["none"])
        goal = str((file["choices"][0]["before"] + 3) / 4)
        out, _ = run("calibrate", *args, "--better", "fp32", "--goal", goal)
        run("calibrate", *args, "--precision", "int4", "--goal", "0.00001")
        with open(os.path.join(model, "couplet_keep.json")) as f:
            int8, int4 = json.load(f)["choices"]
        self.assertEqual((int8["precision"], int4["precision"], int4["group_size"]), ("int8", "int4", 32))
        self.assertRegex(int8["keep"], r"^(qkv|out|up|down)\.[01]=fp32")
        self.assertGreaterEqual(int8["reached"], float(goal))
        self.assertGreater(int8["reached"], int8["before"])
        self.assertEqual(score("auto"), score(int8["keep"]))
        self.assertNotEqual(score("auto"), score("none"))
        with open(os.path.join(model, "model.safetensors"), "r+b") as f:
            f.seek(-3, os.SEEK_END)
            f.write(b"\x00" if f.read(1) != b"\x00" else b"\x01")
        self.assertIn("other weights", score("auto", status=1))
        for wrong in (["--precision", "fp32"], ["--better", "int7"], ["--goal", "2"], ["--settings", "keep=up.0"],
                      ["--by", "cosine"], ["--count", "5"]):
            run("calibrate", *args, *wrong, status=2)
        run("calibrate", "--model", model, status=2)

    def test_bench_quality_bad_input(self):
        _, err = run("bench", "quality", "--model", self.model("cross-encoder"), "--precision", "int7", status=2)
        self.assertIn("int7", err)
        _, err = run("bench", "quality", "--model", self.model("cross-encoder-3-labels"), "--label", "3", status=2)
        self.assertIn("3 labels", err)

    def test_help(self):
        overview, _ = run("help")
        for name in run("help", "--list")[0].splitlines():
            self.assertIn(name, overview)
            self.assertIn("usage: couplet " + name, run("help", *name.split())[0])
            self.assertIn(".SH NAME", run("help", "--man", *name.split())[0])
        self.assertEqual(run("frobnicate", status=2)[0], "")
        self.assertIn("bench engine", run("bench", status=2)[1])
        for shell in "bash", "zsh", "fish":
            run("help", "--completion", shell)


if __name__ == "__main__":
    unittest.main()
