#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch fp32 on the same model and cores, to set beside `couplet bench engine`.

Ids in, rows out, nothing else timed: BertModel (mean pooling) or BertForSequenceClassification under inference_mode,
attention implementations eager and sdpa, a sweep of batch sizes, the best of them reported. Fixed lengths as
rectangles without padding; --pairs FILE (JSONL with "query" and "document") as a real mix, sorted by length and padded
to the longest of a batch. Run the two programs in turn, several times: machines differ from minute to minute.

    tools/bench_pytorch.py --model models/all-MiniLM-L6-v2 --threads 2 --lengths 17,32,128

Prints one JSON document. Useful FLOP as couplet counts them, without the saving of a [CLS]-only last layer, which
PyTorch doesn't make."""
import argparse
import json
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", default="models/all-MiniLM-L6-v2")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--lengths", default="17,32,128")
    p.add_argument("--batches", default="1,2,4,8,16,32,64")
    p.add_argument("--pairs", help="JSONL with query and document; also times a real mix")
    p.add_argument("--pairs-max", type=int, default=256)
    p.add_argument("--attention", default="eager,sdpa")
    p.add_argument("--seconds", type=float, default=1.0, help="for each setting and repetition")
    p.add_argument("--repeat", type=int, default=3)
    return p.parse_args()


def load(path, attention):
    import torch
    from transformers import AutoConfig, BertForSequenceClassification, BertModel

    config = AutoConfig.from_pretrained(path)
    cross = "BertForSequenceClassification" in (config.architectures or [])
    kind = BertForSequenceClassification if cross else BertModel
    return kind.from_pretrained(path, attn_implementation=attention, dtype=torch.float32).eval(), config, cross


def forward(model, cross, ids, mask):
    out = model(input_ids=ids, attention_mask=mask)
    if cross:
        return out.logits
    if mask is None:
        return out.last_hidden_state.mean(1)
    m = mask.unsqueeze(-1).float()
    return (out.last_hidden_state * m).sum(1) / m.sum(1)


def rate(step, seconds, repeat):
    """Best sequences a second, and a second of CPU time, of `repeat` stretches; step() runs one batch and returns how
    many sequences it held. On a machine shared with others the second figure is the steadier one."""
    step()
    best = {"pairs_per_s": 0.0, "pairs_per_cpu_s": 0.0}
    for _ in range(repeat):
        done, start, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            done += step()
        best["pairs_per_s"] = max(best["pairs_per_s"], done / (time.perf_counter() - start))
        best["pairs_per_cpu_s"] = max(best["pairs_per_cpu_s"], done / (time.process_time() - cpu))
    return best


def flop(config, n):
    h, f = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (2 * n * (4 * h * h + 2 * h * f) + 4 * n * n * h)


def time_length(model, config, cross, length, batches, args):
    import torch

    best = {"pairs_per_s": 0.0}
    for batch in batches:
        ids = torch.randint(1000, min(30000, config.vocab_size), (batch, length))

        def step():
            forward(model, cross, ids, None)
            return batch

        r = rate(step, args.seconds, args.repeat)
        if r["pairs_per_s"] > best["pairs_per_s"]:
            best = {**r, "batch": batch}
    return best


def read_pairs(args):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows = []
    with open(args.pairs, encoding="utf-8") as f:
        for line in f:
            pair = json.loads(line)
            rows.append(tokenizer(pair["query"], pair["document"], truncation="longest_first")["input_ids"])
            if len(rows) == args.pairs_max:
                break
    return sorted(rows, key=len)


def time_pairs(model, config, cross, rows, batches, args):
    import torch

    best = {"pairs_per_s": 0.0}
    for batch in batches:
        ready = []
        for i in range(0, len(rows), batch):
            part = rows[i : i + batch]
            longest = max(map(len, part))
            ids = torch.tensor([r + [0] * (longest - len(r)) for r in part])
            mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in part])
            ready.append((ids, mask, len(part)))

        def step():
            for ids, mask, _ in ready:
                forward(model, cross, ids, mask)
            return len(rows)

        r = rate(step, args.seconds, args.repeat)
        if r["pairs_per_s"] > best["pairs_per_s"]:
            best = {**r, "batch": batch}
    return best


def main():
    args = arguments()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    batches = [int(b) for b in args.batches.split(",")]
    results = []
    with torch.inference_mode():
        for attention in args.attention.split(","):
            model, config, cross = load(args.model, attention)
            for length in map(int, args.lengths.split(",")):
                best = time_length(model, config, cross, length, batches, args)
                results.append({"attention": attention, "length": length, **best,
                                "useful_ops_per_s": best["pairs_per_s"] * flop(config, length)})
            if args.pairs:
                rows = read_pairs(args)
                best = time_pairs(model, config, cross, rows, batches, args)
                mean = sum(flop(config, len(r)) for r in rows) / len(rows)
                results.append({"attention": attention, "pairs": len(rows),
                                "mean_length": sum(map(len, rows)) / len(rows), **best,
                                "useful_ops_per_s": best["pairs_per_s"] * mean})
    json.dump({"program": "pytorch", "torch": torch.__version__, "transformers": transformers.__version__,
               "model": args.model, "precision": "fp32", "threads": args.threads, "results": results},
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
