"""Live displays on the last lines of a terminal, and questions, for which every display is stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live

from clusteradm.cli import show

_SECONDS = 0.125  # from one drawing to the next
_started: list[Display] = []


class Display:
    """What `render` returns, drawn again and again until the end of the block; nothing where there is no terminal.

    `every`: seconds from one drawing to the next; None: it is drawn by `draw` only. So is one that is `lasting`, which
    stays on the screen at the end, in full however high it is.
    """

    def __init__(
        self,
        output: show.Output,
        render: Callable[[], RenderableType],
        *,
        every: float | None = _SECONDS,
        lasting: bool = False,
    ) -> None:
        self._output = output
        self._render = render
        self._every = None if lasting else every
        self._lasting = lasting
        self._live: Live | None = None
        self._keeps = False
        self._stopping = threading.Event()

    def __enter__(self) -> Display:
        if self._output.is_terminal:
            _started.append(self)
            try:
                self.start()
            except BaseException:  # Ctrl-C
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in _started:
            _started.remove(self)
            self.stop()

    def start(self) -> None:
        """Draw it below what is on the screen."""
        with _uninterrupted():
            self._start()

    def _start(self) -> None:
        # A Live that is started again erases as many lines as it had before: the question that it was stopped for.
        self._live = Live(
            console=self._output,
            get_renderable=self._drawn,
            transient=not self._lasting,
            auto_refresh=False,
            vertical_overflow="visible" if self._lasting else "ellipsis",
            # What is written to a terminal goes above the display; what goes elsewhere must still go there.
            redirect_stdout=show.stdout.is_terminal,
            redirect_stderr=show.stderr.is_terminal,
        )
        self._keeps = _keep_output(2 if self._output.stderr else 1, True)
        self._live.start(refresh=True)
        show.Output.live = self._output
        self._stopping = threading.Event()
        if self._every is not None:
            threading.Thread(target=self._redraw, args=(self._live, self._stopping, self._every), daemon=True).start()

    def _redraw(self, live: Live, stopping: threading.Event, every: float) -> None:
        while not stopping.wait(every):
            with show.turn:
                if not stopping.is_set():
                    live.refresh()

    def _drawn(self) -> RenderableType:
        # A Live draws a last time when it stops, in full: more lines than a low terminal can take back.
        return _Wrapped(self._render()) if self._live is not None or self._lasting else ""

    def draw(self) -> None:
        """Draw it now."""
        if self._live is not None:
            with _uninterrupted():
                self._live.refresh()

    def stop(self) -> None:
        """Take it off the screen, or leave it there as it is if it is lasting."""
        live, self._live = self._live, None
        if live is not None:
            with _uninterrupted():
                self._stopping.set()
                live.stop()
                show.Output.live = None
                if self._keeps:
                    _keep_output(2 if self._output.stderr else 1, False)


@dataclass(frozen=True)
class _Wrapped:
    """What is shown, its long lines wrapped: a Live cuts them off at the width of the terminal."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.shown, options.update(no_wrap=False, overflow="fold"))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block: after half a drawing, lines would be taken back that are not its own."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with show.turn:
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _keep_output(fd: int, keep: bool) -> bool:
    """Whether Ctrl-C leaves what is written and not yet shown; returns whether that was changed.

    A terminal drops it by default: the rest of a drawing, and the next one takes back lines that are not its own.
    """
    # A process in the background would be stopped; it gets no Ctrl-C either. Nor does one of another session (setsid).
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():
            return False
    except OSError:  # no terminal, or not this process's own
        return False
    attributes = termios.tcgetattr(fd)
    if bool(attributes[3] & termios.NOFLSH) == keep:
        return False
    attributes[3] ^= termios.NOFLSH
    termios.tcsetattr(fd, termios.TCSADRAIN, attributes)
    return True


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """No display within the block but those that begin there."""
    there = list(_started)
    for display in reversed(there):
        display.stop()
    yield
    # Not after Ctrl-C: the program ends.
    for display in there:
        display.start()


def can_ask() -> bool:
    """Whether a person can be asked: standard input and standard error are a terminal, and Ctrl-C ends the question."""
    main = threading.current_thread() is threading.main_thread()
    return main and sys.stdin.isatty() and sys.stderr.isatty()


def _await_line(fd: int) -> None:
    """Wait until a line has been typed, or the input has ended. Raises KeyboardInterrupt.

    The interpreter would see a Ctrl-C between its last look for signals and the read only after the next line. So it
    does not read before there is something, and the wakeup descriptor ends the wait.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        while fd not in select.select([fd, reader], [], [])[0]:
            os.read(reader, 1 << 10)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def confirm(table: str, question: str) -> bool:
    """Show the table, ask the question. No without a y, and at the end of input."""
    with stopped():
        show.message(table)
        # Keys typed before the question was seen are no answer to it.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        answer = ""
        try:
            sys.stderr.write(show.line(question) + " [y/N] ")
            sys.stderr.flush()
            _await_line(sys.stdin.fileno())
            answer = sys.stdin.readline()
        except UnicodeDecodeError:
            answer = "?"
        finally:
            if not answer.endswith("\n"):
                sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def ask(question: str) -> str | None:
    """Ask for a line. None at the end of input."""
    with stopped():
        answer = ""
        try:
            sys.stderr.write(show.line(question))
            sys.stderr.flush()
            if sys.stdin.isatty():  # of a pipe the next lines may have been read already
                _await_line(sys.stdin.fileno())
            answer = sys.stdin.readline()
        except UnicodeDecodeError:
            return ""
        finally:
            if not answer.endswith("\n"):
                sys.stderr.write("\n")
    return answer.rstrip("\n") if answer else None


def password(question: str) -> str:
    """Ask on the terminal, without echo. Empty at the end of input. Raises OSError without a terminal."""
    with stopped(), Path("/dev/tty").open("r+b", buffering=0) as terminal:
        # As getpass, which cannot wait for Ctrl-C. What was typed before the question is dropped.
        before = termios.tcgetattr(terminal)
        hidden = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
            terminal.write(show.line(question).encode())
            _await_line(terminal.fileno())
            return os.fsdecode(terminal.readline()).rstrip("\n")
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            terminal.write(b"\n")
