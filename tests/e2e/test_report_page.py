#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/experiments/index.html in a headless Chromium, made from results of the test backend: it asks nobody for anything,
its console stays empty, and in light, dark and on a phone's width nothing runs out of the window and no word of a figure
out of the figure. COUPLET_SCREENSHOTS names a folder for pictures. Skipped without Chromium."""

import base64
import os
import shutil
import subprocess
import tempfile
import unittest

from test_live_page import Browser  # leaves with 77 where there is no browser

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("COUPLET_PROGRAM", os.path.join(ROOT, "build", "couplet"))
MODEL = os.path.join(ROOT, "tests", "golden", "models", "cross-encoder")

EXPERIMENTS = {
    "05_sizes": "experiment: {batch_sizes: [1, 4, 16], phase: 2 sizes}",
    "16a_off": "batching: {enabled: false}\nexperiment: {concurrency_levels: [1, 4, 16], phase: 6 joined}",
    "16b_greedy": "batching: {policy: greedy}\nexperiment: {concurrency_levels: [1, 4, 16], phase: 6 joined}",
    "16c_timers": "batching: {max_batch_size: 8}\n"
                  "experiment: {concurrency_levels: [4], sweep: {batching.timeout_ms: [1, 2, 4]}, phase: 6 joined}",
    "20_load": "experiment: {scenario: poisson, rate: [50, 100, 200], slo_ms: 20, phase: 7 load}",
    "30_absent": "model: {backend: nosuch}\nexperiment: {description: <script>alert(1)</script>}",
}
# Words of figures that begin or end outside them, by more than a pixel.
OUTSIDE = """[...document.querySelectorAll('svg text')].filter(t => {
  const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
  return a.width && (a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1);
}).map(t => t.textContent)"""


class ReportPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp()
        with open(os.path.join(cls.dir, "base_config.yaml"), "w") as f:
            f.write(f"model: {{name: {MODEL}, backend: fake, fake: {{fixed_us: 2000, per_token_ns: 4000}}}}\n"
                    "pin_workers: false\nexperiment: {batch_sizes: [1], warmup_iterations: 2}\n")
        for name, text in EXPERIMENTS.items():
            with open(os.path.join(cls.dir, name + ".yaml"), "w") as f:
                f.write(text + "\n")
        cls.out = os.path.join(cls.dir, "out")
        for command in (["experiment", "run", *(os.path.join(cls.dir, n + ".yaml") for n in sorted(EXPERIMENTS)),
                         "--quick", "--output", cls.out],
                        ["report", "--results", cls.out, "--experiments", cls.dir, "--price-per-hour", "1"]):
            done = subprocess.run([PROGRAM, *command], capture_output=True, timeout=300, text=True)
            if done.returncode:
                raise AssertionError(done.stderr)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def look(self, name, width, scheme):
        with Browser() as b:
            b.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
            b.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            b.call("Page.navigate", url="file://" + os.path.join(self.out, "index.html"))
            b.until("document.readyState == 'complete' && !!document.querySelector('footer')")
            self.assertLessEqual(b.value("document.documentElement.scrollWidth"), width)
            self.assertGreaterEqual(b.value("document.querySelectorAll('svg').length"), 8)
            self.assertEqual(b.value(OUTSIDE), [])
            self.assertEqual(b.value("[...document.querySelectorAll('nav a')].filter("
                                     "a => !document.querySelector(a.getAttribute('href'))).length"), 0)
            self.assertEqual(b.value("document.querySelectorAll('script').length"), 0)
            background = b.value("getComputedStyle(document.body).backgroundColor")
            self.assertEqual(background == "rgb(20, 23, 26)", scheme == "dark", background)
            asked = [e["params"]["request"]["url"] for e in b.events if e.get("method") == "Network.requestWillBeSent"]
            self.assertEqual([u for u in asked if not u.endswith("/index.html")], [])
            said = [e for e in b.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown",
                                                               "Runtime.consoleAPICalled")]
            self.assertEqual(said, [])
            pictures = os.environ.get("COUPLET_SCREENSHOTS")
            if pictures:
                picture = b.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
                with open(os.path.join(pictures, f"report_{name}.png"), "wb") as f:
                    f.write(base64.b64decode(picture))

    def test_light(self):
        self.look("light", 1200, "light")

    def test_dark(self):
        self.look("dark", 1200, "dark")

    def test_phone(self):
        self.look("phone", 390, "light")


if __name__ == "__main__":
    unittest.main()
