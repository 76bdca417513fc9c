# SPDX-License-Identifier: MIT
"""What doc/operator.md quotes is what is printed, and what it names exists.

Indented lines in the chapter about what is wrong are messages; `...` there stands for what varies. Each
piece between must be in the text of one and the same message of the sources, in that order.
"""
import os
import re
import subprocess
import sys
import unittest

SRC = os.environ.get("KMM_SRCDIR", ".")
sys.path.insert(0, os.path.join(SRC, "tests", "integration"))
import kmmtest  # noqa: E402

LITERAL = r'"((?:[^"\\\n]|\\.)*)"'
# What stands between two literals that the compiler joins: blanks, comments, PRIu64 and the like.
JOINT = r'(?:\s|\\\n|/\*.*?\*/|PRI[a-z0-9A-Z]+|[A-Z][A-Z_]+\b(?!\s*\())*'
# At a literal's end the letter is in a macro.
CONVERSION = re.compile(r"%[-+#0-9.*]*(?:(?:hh|h|ll|l|z|j)?[a-zA-Z]|$)")
VARIES = "\0"


def read(*path):
    with open(os.path.join(SRC, *path), encoding="utf-8") as f:
        return f.read()


def messages():
    """Texts of the sources: adjacent literals joined, what printf fills in replaced by VARIES."""
    found = []
    for folder in ("daemon", "client", "client/kmmctl", "mm", "shm"):
        for name in sorted(os.listdir(os.path.join(SRC, folder))):
            if not name.endswith((".c", ".h")):
                continue
            for run in re.finditer(f"{LITERAL}(?:{JOINT}{LITERAL})*", read(folder, name), re.S):
                text = "".join(CONVERSION.sub(VARIES, part) for part in re.findall(LITERAL, run[0]))
                found.append(text.replace('\\"', '"').replace("\\n", "\n"))
    return found


def chapters():
    guide = read("doc", "operator.md")
    return guide[:guide.index("\n## When something")], guide[guide.index("\n## When something"):]


class Guide(unittest.TestCase):
    def test_every_message_exists(self):
        sources = messages()
        self.assertGreater(len(sources), 1000)
        quoted = re.findall(r"^    (.*)$", chapters()[1], re.M)
        self.assertGreater(len(quoted), 20)
        unknown = []
        for line in quoted:
            pieces = [p.strip() for p in line.split("...")]
            pieces = [p for p in pieces if re.search(r"[a-z]{3}", p)]
            pattern = re.compile(".*".join(re.escape(p) for p in pieces), re.S)
            if not any(pattern.search(text) for text in sources):
                unknown.append(line)
        # That one is systemd's.
        self.assertEqual(unknown, ["kmmd.service: Main process exited, code=exited, status=2/INVALIDARGUMENT"])

    def test_every_command_exists(self):
        said = subprocess.run([kmmtest.KMMCTL, "--help"], capture_output=True, text=True, check=True).stdout
        commands = set(re.findall(r"^  ([a-z][a-z-]*) ", said, re.M))
        shown = re.findall(r"`([^`]*)`|^    (.*)$", "".join(chapters()), re.M)
        named = set(re.findall(r"kmmctl\s+(?:--watch 1 )?([a-z][a-z-]*)", str(shown)))
        self.assertGreater(len(named), 10)
        self.assertEqual(named - commands, set())

    def test_every_key_exists(self):
        page = read("man", "kmmd.conf.5")
        keys = set(re.findall(r"^\.B ([a-z_]+)$", page, re.M))
        named = set(re.findall(r"`(?:\[[a-z]+\] )?([a-z]+(?:_[a-z]+)*) = ", "".join(chapters())))
        named |= set(re.findall(r"`\[[a-z]+\] ([a-z_]+)`", "".join(chapters())))
        self.assertGreater(len(named), 5)
        self.assertEqual(named - keys, set())

    def test_every_link_leads_somewhere(self):
        text = "".join(chapters())
        anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
                   for h in re.findall(r"^#+ (.*)$", text, re.M)}
        for link in re.findall(r"\]\(#(.*?)\)", text):
            self.assertIn(link, anchors)
        for page, section in re.findall(r"\b(kmm[a-z.-]*|libkmm)\((\d)\)", text):
            self.assertTrue(os.path.exists(os.path.join(SRC, "man", f"{page}.{section}")), page)


if __name__ == "__main__":
    kmmtest.main()
