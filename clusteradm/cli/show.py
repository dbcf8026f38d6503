"""Output of every command: data on standard output, messages on standard error.

Everything that a command shows goes through here, and text of others is escaped here (`escape`): in messages, tables
and live displays always, in data that a person asked for (`data`) on a terminal.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, ClassVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from clusteradm.cli.escape import line, visible
from clusteradm.cli.tables import Table
from clusteradm.errors import OutputFailed

__all__ = [
    "Output",
    "Table",
    "Text",
    "counted",
    "data",
    "data_stream",
    "json_document",
    "json_text",
    "line",
    "message",
    "text",
    "turn",
    "visible",
    "writing",
]

SCHEMA_VERSION = 1
# Held by whoever writes to a terminal. Rich lets two threads print at once, and a display that another thread draws in
# between then takes back a line that is not its own.
turn = threading.RLock()
# In a pipe a row of a table is one line, however long: a person may search it, a program cut it into fields.
PIPED_WIDTH = 4096


class Output(Console):
    """Standard output or standard error. Text is never parsed as markup: "[coral-0]" is a name, not a colour.

    `live`: the one that has a live display.
    """

    live: ClassVar[Output | None] = None

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(
            stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=True, tab_size=4
        )

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, above the live display if there is one."""
        with turn, writing():
            # Only the console of a display knows how to print above it.
            there = Output.live if Output.live is not None and self.is_terminal else self
            Console.print(there, *objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The string as Text, escaped before it is measured and laid out."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that can be shown, their text escaped: whatever it was made of."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled: `main` ends the program."""
        raise


stdout = Output(width=None if sys.stdout.isatty() else PIPED_WIDTH)
stderr = Output(stderr=True)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raise OutputFailed where the output cannot be written, which is no defect; a reader that has gone is another
    matter (BrokenPipeError)."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(*error.args) from None


def counted(number: int, noun: str) -> str:
    """ "1 rank", "2 ranks"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def text(*parts: str | tuple[str, str]) -> Text:
    """Text for a live display or a table, escaped. A part is text, or text and its style."""
    pairs = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((visible(words), style) for words, style in pairs))


def json_text(document: Any, **options: Any) -> str:
    """The document as JSON, in ASCII. JSON escapes all that `visible` does but DEL."""
    return json.dumps(document, **options).replace("\x7f", "\\u007f") + "\n"


def json_document(command: str, body: Mapping[str, Any]) -> None:
    """Write the one JSON document of a `--json` run to standard output."""
    with writing():
        sys.stdout.write(json_text({"schema_version": SCHEMA_VERSION, "command": command, **body}, indent=2))
        sys.stdout.flush()


def data(words: str) -> None:
    """Write text that a person asked for: as it is to a file or a pipe, escaped to a terminal."""
    with writing():
        sys.stdout.write(visible(words) if sys.stdout.isatty() else words)
        sys.stdout.flush()


def data_stream() -> BinaryIO:
    """Standard output for bytes of UTF-8 text that a person asked for, as `data`. Its user flushes it, in `writing`."""
    return io.BufferedWriter(_Terminal()) if sys.stdout.isatty() else sys.stdout.buffer


class _Terminal(io.RawIOBase):
    """Standard output, where bytes are written as escaped text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, chunk: Any) -> int:
        """Write all of it."""
        words = bytes(chunk)
        sys.stdout.write(visible(self._decoder.decode(words)))
        sys.stdout.flush()
        return len(words)


def message(words: str) -> None:
    """A line for the person, on standard error."""
    stderr.print(words)
