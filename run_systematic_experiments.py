#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every experiment in order, then the pages over all of them. Flags go to `couplet experiment run` (--quick, --set)."""
import os
import subprocess
import sys

os.chdir(os.path.dirname(os.path.abspath(__file__)))
couplet = os.environ.get("COUPLET", "build/couplet")
flags = sys.argv[1:]
results = ["--results", flags[flags.index("--output") + 1]] if "--output" in flags[:-1] else []
ran = subprocess.run([couplet, "experiment", "run", "all", *flags]).returncode
sys.exit(subprocess.run([couplet, "report", *results]).returncode or ran)
