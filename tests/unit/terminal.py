"""A terminal for tests: a command in a real pseudo-terminal, and the screen that it draws.

The screen knows the sequences that the program has reason to send and refuses any other: no text of others may reach a
terminal as a command to it.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import warm

SECONDS = 120.0  # for anything: a busy machine may take its time
_SEQUENCE = re.compile(r"\x1b\[(\?25[hl]|[0-9;]*m|\d*A|[012]?K|1?G)")
_INCOMPLETE = re.compile(r"\x1b(\[[?0-9;]{0,20})?")


class Refused(AssertionError):
    """A control character or sequence that the program has no reason to send."""


class Screen:
    """Lines of a terminal, `lines` with those that were scrolled off the top. `cursor`: whether it is to be seen.

    `wrapped`: the numbers of lines that continue in the next because they reached the right edge.
    """

    def __init__(self, width: int, height: int = 24) -> None:
        self.width, self.height = width, height
        self.lines = [""]
        self.wrapped: set[int] = set()
        self.cursor = True
        self._row = self._column = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def text(self) -> str:
        """All lines, those joined that were one line as the program wrote it."""
        return "".join(
            line if number in self.wrapped else line.rstrip() + "\n" for number, line in enumerate(self.lines)
        )

    def feed(self, data: bytes) -> None:
        """Draw. Raises Refused."""
        words = self._rest + self._decoder.decode(data)
        self._rest, place = "", 0
        while place < len(words):
            if words[place] != "\x1b":
                self._character(words[place])
                place += 1
            elif found := _SEQUENCE.match(words, place):
                self._sequence(found[1])
                place = found.end()
            elif _INCOMPLETE.fullmatch(words, place):
                self._rest = words[place:]
                break
            else:
                raise Refused(repr(words[max(0, place - 40) : place + 20]))

    def _character(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._down()
        elif character == "\t":
            self._column = min(self._column // 8 * 8 + 8, self.width - 1)
        elif ord(character) < 32 or 127 <= ord(character) < 160 or "\u202a" <= character <= "\u202e":
            raise Refused(repr(character))
        else:
            if self._column == self.width:
                self.wrapped.add(self._row)
                self._down()
                self._column = 0
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.lines):
            self.lines.append("")

    def _sequence(self, sequence: str) -> None:
        number, kind = sequence[:-1], sequence[-1]
        line = self.lines[self._row]
        if sequence in ("?25h", "?25l"):
            self.cursor = kind == "h"
        elif kind == "A":
            # Not above the top: what was scrolled off is out of reach.
            self._row = max(self._row - int(number or 1), len(self.lines) - self.height, 0)
        elif kind == "G":
            self._column = 0
        elif kind == "K":
            self.wrapped.discard(self._row)
            self.lines[self._row] = {"2": "", "1": " " * self._column + line[self._column :]}.get(
                number, line[: self._column]
            )


class Terminal:
    """A command whose terminal this is. `screen`: what is drawn; `raw`: all that was written."""

    def __init__(self, words: Sequence[str | Path], width: int) -> None:
        self.screen = Screen(width)
        self.raw = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.height, width, 0, 0))
        unwanted = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
        ours = {name: value for name, value in os.environ.items() if name not in unwanted}
        env = {**ours, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        self.process: warm.Program | subprocess.Popen[bytes]
        if words[0] == sys.executable:
            self.process = warm.start(words, (slave, slave, slave), env)
        else:
            self.process = subprocess.Popen(
                words,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        os.close(slave)

    def read(self, seconds: float = SECONDS) -> bool:
        """Draw what comes next; False at the end."""
        if not select.select([self._master], [], [], seconds)[0]:
            raise AssertionError(f"nothing is written for {seconds} s; the screen:\n{self.screen.text}")
        data = b""
        with contextlib.suppress(OSError):  # EIO: the last process that had the terminal is gone
            data = os.read(self._master, 65536)
        self.raw += data
        self.screen.feed(data)
        return bool(data)

    def wait_for(self, text: str) -> str:
        """The screen's text, once this is in it."""
        deadline, text = time.monotonic() + SECONDS, text.rstrip()
        while text not in self.screen.text:
            if time.monotonic() > deadline or not self.read():
                raise AssertionError(f"{text!r} is not to be seen; the screen:\n{self.screen.text}")
        return self.screen.text

    def type(self, text: str) -> None:
        """Type on the keyboard: "\\x03" is Ctrl-C."""
        os.write(self._master, text.encode())

    @property
    def echoes(self) -> bool:
        """Whether what is typed is to be seen."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    @property
    def flushes(self) -> bool:
        """Whether the terminal is as it is by default: Ctrl-C drops what it has not shown."""
        return not termios.tcgetattr(self._master)[3] & termios.NOFLSH

    def wait_for_secret(self, question: str) -> None:
        """Draw until the question is there, and what is typed is not to be seen."""
        self.wait_for(question)
        while self.echoes:
            time.sleep(0.01)

    def finish(self) -> int:
        """Draw all of the rest; the exit status."""
        while self.read():
            pass
        return self.process.wait(SECONDS)

    def close(self) -> None:
        """End the command, if it has not ended."""
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._master)


def clusteradm(*words: str | Path, width: int = 80) -> contextlib.AbstractContextManager[Terminal]:
    """`clusteradm` with these words in a terminal."""
    return command([sys.executable, "-m", "clusteradm", *words], width=width)


@contextlib.contextmanager
def command(words: Sequence[str | Path], *, width: int = 80) -> Iterator[Terminal]:
    """A program and its arguments in a terminal."""
    terminal = Terminal(words, width)
    try:
        yield terminal
    finally:
        terminal.close()
