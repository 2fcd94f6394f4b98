#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real Prometheus: promtool on deploy/ and on what /metrics says, a scrape, and every query of the dashboard."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import ROOT, Server, model

DEPLOY = os.path.join(ROOT, "deploy")


def metrics(address):
    return urllib.request.urlopen(f"http://{address}/metrics", timeout=30).read()


def rerank(address):
    host, port = address.rsplit(":", 1)
    web = http.client.HTTPConnection(host, int(port), timeout=60)
    web.request("POST", "/rerank", json.dumps({"query": "a", "texts": ["b", "c"]}))
    assert web.getresponse().read()
    web.close()


class Deploy(unittest.TestCase):
    def test_promtool_accepts_configuration_rules_and_metrics(self):
        check = ["promtool", "check"]
        done = subprocess.run(check + ["config", os.path.join(DEPLOY, "prometheus.yml")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with Server("--model", model("cross-encoder")) as server:
            rerank(server.address)
            done = subprocess.run(check + ["metrics"], input=metrics(server.address), capture_output=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_prometheus_scrapes_and_answers_the_dashboard(self):
        with open(os.path.join(DEPLOY, "grafana-dashboard.json")) as f:
            dashboard = json.load(f)
        queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
        self.assertGreater(len(queries), 10)
        with tempfile.TemporaryDirectory() as folder, Server("--model", model("cross-encoder")) as server:
            with open(os.path.join(DEPLOY, "prometheus.yml")) as f:
                text = f.read().replace("127.0.0.1:50051", server.address).replace("10s", "1s")
            with open(os.path.join(folder, "prometheus.yml"), "w") as f:
                f.write(text)
            shutil.copy(os.path.join(DEPLOY, "alerts.yml"), folder)
            with open(os.path.join(folder, "log"), "wb") as log:
                prometheus = subprocess.Popen(
                    ["prometheus", "--config.file", os.path.join(folder, "prometheus.yml"), "--storage.tsdb.path",
                     os.path.join(folder, "data"), "--web.listen-address", "127.0.0.1:0"], stdout=log, stderr=log)
            try:
                address = self.listening(os.path.join(folder, "log"), prometheus)
                self.wait_for(address, 'up{job="couplet"}', lambda v: v == 1)
                for _ in range(3):
                    rerank(server.address)
                self.wait_for(address, "couplet_pairs_total", lambda v: v == 6)
                self.wait_for(address, "sum(rate(couplet_pairs_total[5m]))", lambda v: v > 0)
                for query in queries:
                    for name, value in {"$__rate_interval": "5m", '=~"$instance"': '=~".+"'}.items():
                        query = query.replace(name, value)
                    self.assertNotIn("$", query)
                    self.assertTrue(self.ask(address, query), f"no data for: {query}")
            finally:
                prometheus.terminate()
                prometheus.wait(60)

    def listening(self, path, process):
        for _ in range(600):
            with open(path) as f:
                text = f.read()
            found = re.search(r'msg="Listening on" address=(\S+)', text)
            if found:
                return found.group(1)
            self.assertIsNone(process.poll(), text)
            time.sleep(0.1)
        self.fail(text)

    def ask(self, address, query):
        url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        answer = json.load(urllib.request.urlopen(url, timeout=30))
        self.assertEqual(answer["status"], "success", query)
        return answer["data"]["result"]

    def wait_for(self, address, query, holds):
        result = None
        for _ in range(600):
            try:
                result = self.ask(address, query)
            except urllib.error.HTTPError as not_ready:
                self.assertEqual(not_ready.code, 503)
            if result and holds(float(result[0]["value"][1])):
                return
            time.sleep(0.1)
        self.fail(f"{query}: {result}")


if __name__ == "__main__":
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        print("skipped: prometheus is not installed (Debian's package of that name has it)", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
