#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page at / in a headless Chromium: it loads, follows the server's events, shows what load does, asks nobody else for
anything, and its console stays empty; in light, dark and on a phone's width nothing runs out of the window. The browser is
driven over its pipe (DevTools protocol). COUPLET_SCREENSHOTS names a folder for pictures. Skipped without Chromium."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Client, Server, model

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not BROWSER:
    print("skipped: no Chromium here", file=sys.stderr)
    sys.exit(77)

TWO = "models=[{name: ce, path: %s}, {name: <b>emb, path: %s, replicas: 2}]" % (
    model("cross-encoder"), model("embedder-mean"))
SECONDS = 60


class Browser:
    """One page of a headless browser. Events that nobody waited for are kept in `events`."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        to_read, self.to_write = os.pipe()
        self.from_read, from_write = os.pipe()
        quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-extensions", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir=" + self.folder]

        def descriptors():
            os.dup2(to_read, 3)
            os.dup2(from_write, 4)

        # The ends may be 3 and 4 themselves: move them away before they are put there.
        to_read, from_write = (self._high(fd) for fd in (to_read, from_write))
        self.to_write, self.from_read = (self._high(fd) for fd in (self.to_write, self.from_read))
        self.process = subprocess.Popen([BROWSER, *quiet, "about:blank"], preexec_fn=descriptors, close_fds=True,
                                        pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.buffer, self.events, self.number, self.session = b"", [], 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")

    @staticmethod
    def _high(fd):
        high = fcntl.fcntl(fd, fcntl.F_DUPFD, 20)
        os.close(fd)
        return high

    def close(self):
        for fd in (self.to_write, self.from_read):
            os.close(fd)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _message(self, end):
        while b"\0" not in self.buffer:
            if not select.select([self.from_read], [], [], max(end - time.monotonic(), 0))[0]:
                raise AssertionError("the browser doesn't answer")
            piece = os.read(self.from_read, 1 << 20)
            if not piece:
                raise AssertionError("the browser has gone")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to_write, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            message = self._message(end)
            if message.get("id") != self.number:
                self.events.append(message)
            elif "error" in message:
                raise AssertionError(f"{method}: {message['error']}")
            else:
                return message["result"]

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}\n{self.value('document.body.innerText')}")
            time.sleep(0.1)

    def picture(self, name):
        folder = os.environ.get("COUPLET_SCREENSHOTS")
        if not folder:
            return
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(os.path.join(folder, name + ".png"), "wb") as f:
            f.write(base64.b64decode(data))


class LivePage(unittest.TestCase):
    TILE = "(name => [...document.querySelectorAll('#tiles .card')].find(c => c.querySelector('h2').textContent === name)" \
           ".querySelector('.value').firstChild.textContent.trim())"

    def test_it_follows_the_server(self):
        with Server("--set", TWO, "--threads", "2") as server, Browser() as browser:
            stop = threading.Event()

            def load(name):
                with Client(server.address) as client:
                    while not stop.is_set():
                        client.score([("one two", "three four")] * 8, metadata=[("model", name)])

            page = f"http://{server.address}/"
            browser.call("Page.navigate", url=page)
            browser.until("document.querySelectorAll('#tiles .card').length === 9")
            browser.until("document.querySelector('#state').textContent.includes(', serving')")
            self.assertEqual(browser.value(self.TILE + "('Pairs')"), "0")
            rows = browser.value("[...document.querySelectorAll('#models tr')].slice(1).map(r => r.cells[0].innerText)")
            self.assertEqual([r.split("\n")[0] for r in rows], ["ce", "<b>emb replica 1 of 2", "<b>emb replica 2 of 2"])
            before = browser.value("points.length")
            threads = [threading.Thread(target=load, args=(n,)) for n in ("ce", "<b>emb")]
            for t in threads:
                t.start()
            try:
                browser.until(self.TILE + "('Pairs') !== '0' && " + self.TILE + "('Tokens') !== '0'")
                browser.until("[1, 2, 3].every(i => !/^0$/.test(document.querySelectorAll('#models tr')[i].cells[4].textContent))")
                browser.until(f"points.length >= {before} + 3")
                browser.until("document.querySelector('#rate path').getAttribute('d').includes('L')")
                browser.until("document.querySelectorAll('#tokens rect').length > 0")
                self.look(browser)
            finally:
                stop.set()
                for t in threads:
                    t.join()
            browser.until(self.TILE + "('Pairs') === '0'")
            server.stop()
            browser.until("document.querySelector('#state').className === 'bad'")
            self.check_events(browser, page)

    def look(self, browser):
        """Light, dark and narrow: the colours differ, and only the table scrolls, inside its card."""
        colours = set()
        for name, width, scheme in (("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"),
                                    ("phone-dark", 390, "dark")):
            browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                         mobile=width < 500)
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            points = browser.value("points.length")
            browser.until(f"points.length > {points}")  # drawn at that width
            colours.add(browser.value("getComputedStyle(document.body).backgroundColor"))
            self.assertLessEqual(browser.value("document.documentElement.scrollWidth"), width, name)
            browser.picture("live-" + name)
        self.assertEqual(len(colours), 2)

    def check_events(self, browser, page):
        asked, problems = [], []
        for event in browser.events:
            kind, params = event["method"], event.get("params", {})
            if kind == "Network.requestWillBeSent":
                asked.append(params["request"]["url"])
            if kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                problems.append(params)
            if kind == "Log.entryAdded" and "/live" not in params["entry"].get("url", "") and \
                    "favicon" not in params["entry"].get("url", ""):
                problems.append(params)
        self.assertEqual(problems, [])
        self.assertIn(page, asked)
        self.assertIn(page + "live", asked)
        self.assertEqual({url for url in asked if not url.startswith(page)}, set())


if __name__ == "__main__":
    unittest.main()
