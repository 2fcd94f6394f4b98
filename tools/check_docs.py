#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the documents still tell the truth? Every relative link and every path, make target, cmake option and command or
flag of couplet they name in code must exist. Prints FILE:LINE: what is wrong, and exits 1 if there was anything."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md",
             *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md"))]
FOLDERS = ("src/", "include/", "tests/", "tools/", "cmake/", "docs/", "experiments/", "proto/", ".ci/")
MADE_LATER = ("docs/experiments/",)  # what `couplet report` writes


def exists(path):
    path = path.split("#")[0].split(":")[0].rstrip("/")
    if not path or (path + "/").startswith(MADE_LATER):
        return True
    if any(c in path for c in "<>{}") or re.search(r"[A-Z]{3}", re.sub("README|DESIGN", "", path)):
        return True  # a pattern: src/FLOOR/NAME.c
    if "*" in path:
        return any(ROOT.glob(path))
    return (ROOT / path).exists()


def commands():
    """Names of couplet's commands, and of all their flags."""
    text = "".join(p.read_text() for p in (ROOT / "src" / "cli").glob("*.[ch]"))
    return (set(re.findall(r"\.name = \"([a-z ]+)\"", text)) | {"version"},
            set(re.findall(r"\{\"([a-z0-9-]+)\", CPL_FLAG_", text)) | {"help", "version"})


def wrong_commands(line, names, flags):
    """What a line's calls of couplet name that isn't there."""
    in_code = [line] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
    for code in in_code:
        for call in re.findall(r"(?:^|[\s/])couplet ([a-z][^|#>;]*)", code):
            words = re.findall(r"[a-z]+(?![\w=./:-])", call.split(" --")[0])
            if words and not any(n == words[0] or n.startswith(words[0] + " ") for n in names):
                yield "no command '%s'" % words[0]
            for flag in re.findall(r"(?:^|\s)--([a-z0-9-]+)", call):
                if flag not in flags:
                    yield "no flag '--%s' of any command" % flag


def main():
    names, flags = commands()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    options = set(re.findall(r"COUPLET_[A-Z_]+", "".join(p.read_text() for p in [ROOT / "CMakeLists.txt",
                                                                                *ROOT.glob("cmake/*.cmake")])))
    bad = []
    for name in DOCUMENTS:
        file = ROOT / name
        if not file.exists():
            bad.append("%s: missing" % name)
            continue
        for i, line in enumerate(file.read_text().split("\n"), 1):
            for link in re.findall(r"\]\(([^)\s]+)\)", line):
                if "://" not in link and not link.startswith("#") and not (file.parent / link.split("#")[0]).exists():
                    bad.append("%s:%d: link to '%s', which isn't there" % (name, i, link))
            bad += ["%s:%d: %s" % (name, i, what) for what in wrong_commands(line, names, flags)]
            for code in re.findall(r"`([^`]+)`", line):
                word = code.split()[0] if code.split() else ""
                if word.startswith(FOLDERS) and not exists(word):
                    bad.append("%s:%d: '%s' isn't there" % (name, i, word))
                m = re.match(r"make ([a-z-]+)", code)
                if m and m.group(1) not in targets:
                    bad.append("%s:%d: no target '%s' in the Makefile" % (name, i, m.group(1)))
                for option in re.findall(r"-D(COUPLET_[A-Z_]+)", code):
                    if option not in options:
                        bad.append("%s:%d: no CMake option '%s'" % (name, i, option))
    print("\n".join(bad))
    sys.exit(1 if bad else 0)


main()
