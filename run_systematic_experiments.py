#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every experiment in order, then the pages over all of them: docs/experiments/index.html and summary.md. Builds couplet
and fetches the model first where they aren't here. Flags go to `couplet experiment run` (--quick, --set, --force)."""
import os
import subprocess
import sys

os.chdir(os.path.dirname(os.path.abspath(__file__)))
couplet = os.environ.get("COUPLET", "build/couplet")
if couplet == "build/couplet" and not os.path.exists(couplet) and subprocess.run(["make", "all"]).returncode:
    sys.exit("run_systematic_experiments: couplet could not be built: see above")
if not os.path.exists("models") and subprocess.run(["make", "model"]).returncode:
    print("run_systematic_experiments: no model was fetched: experiments will say that it is missing", file=sys.stderr)
flags = sys.argv[1:]
results = ["--results", flags[flags.index("--output") + 1]] if "--output" in flags[:-1] else []
ran = subprocess.run([couplet, "experiment", "run", "all", *flags]).returncode
sys.exit(subprocess.run([couplet, "report", *results]).returncode or ran)
