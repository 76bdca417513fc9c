# SPDX-License-Identifier: MIT
"""README's tutorial: its commands as they stand there, run in a booted machine.

In README a fenced block whose info string is `sh NAME` holds commands of the user NAME (root: as root;
`build`: what was done before, on the machine that built the packages). A block `text` behind it is
what they print. Each user has one shell for the whole tutorial, started with the first of his blocks,
as somebody who logs in there; a command that fails ends it. Outputs are compared word by word, and any
number stands for any other.
"""
import re
import shlex
import subprocess

END = "== end of block"


class Block:
    def __init__(self, user, commands, line):
        self.user, self.commands, self.line = user, commands, line
        self.output = None


def blocks(readme):
    """The commands in their order, with what README says that they print."""
    with open(readme, encoding="utf-8") as f:
        lines = f.read().split("\n")
    found, at, last = [], 0, None
    while at < len(lines):
        fence = re.fullmatch(r"```(\w+)(?: (\w+))?", lines[at])
        if not fence:
            at += 1
            continue
        end = lines.index("```", at + 1)
        body = "\n".join(lines[at + 1:end])
        if fence[1] == "sh" and fence[2]:
            last = Block(fence[2], body, at + 2)
            found.append(last)
        elif fence[1] == "text" and last:
            last.output, last = body, None
        at = end + 1
    return found


def words(text):
    """One list a line; what is a number is only that."""
    return [re.sub(r"\d+(\.\d+)*", "0", line).split() for line in text.strip().split("\n")]


class Shell:
    """A login shell of a user in the machine. Its errors go where its output goes only if it fails."""

    def __init__(self, machine, user, folder):
        self.machine, self.number = machine, 0
        self.errors = f"/tmp/tutorial-{user}-errors"
        argv = machine.argv(["bash", "-eu", "-o", "pipefail"], user=user,
                            options=["--working-directory=" + folder])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.user = user

    def run(self, commands):
        """What they print; they read nothing."""
        self.number += 1
        path = f"/tmp/tutorial-{self.user}-{self.number}"
        self.machine.put(path, commands + "\n")
        self.process.stdin.write(f". {path} </dev/null 2>{shlex.quote(self.errors)}\n"
                                 f"printf '\\n%s\\n' '{END}'\n")
        self.process.stdin.flush()
        said = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return "".join(said)
            said.append(line)
        errors = self.machine.shell(f"cat {shlex.quote(self.errors)}")
        raise AssertionError(f"a command of {self.user} failed:\n{commands}\n{''.join(said)}{errors}")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def follow(machine, found, folders):
    """Runs all blocks but those of `build`. folders: where each user begins."""
    shells = {}
    try:
        for block in found:
            if block.user == "build":
                continue
            if block.user not in shells:
                shells[block.user] = Shell(machine, block.user, folders[block.user])
            said = shells[block.user].run(block.commands)
            if block.output is not None and words(said) != words(block.output):
                raise AssertionError(f"README, line {block.line}: it says\n{block.output}\n"
                                     f"but printed is\n{said}")
    finally:
        for shell in shells.values():
            shell.close()
