"""Tables of the output: no frame, no padding at the ends of lines, and nothing cut off on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import rich.table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from clusteradm.cli.escape import line

# More columns than any cell has that is not to be broken.
_WIDE = 4096
# Columns that a column whose words may be broken is given at least.
_LEAST_FOLDED = 20


class Table(rich.table.Table):
    """Table without a frame. A string in a cell is one line.

    Where the terminal is too narrow for its columns, each row is a paragraph of headers and values: nothing is cut off.
    """

    def __init__(self, *columns: str, **options: Any) -> None:
        super().__init__(*map(line, columns), **{"box": None, "pad_edge": False, "header_style": "bold", **options})

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row."""
        super().add_row(*(Text(line(cell)) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.show_header and self._least(console, options) > options.max_width:
            yield from self._records(console, options)
        else:
            yield from _unpadded(super().__rich_console__(console, options))

    def _least(self, console: Console, options: ConsoleOptions) -> int:
        """The width at which no cell that must not be broken is cut off."""
        wide = options.update(width=_WIDE)
        least = []
        for column in self.columns:
            widths = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
            if column.no_wrap:
                least.append(max(width.maximum for width in widths))
            else:
                word = max(width.minimum for width in widths)
                least.append(min(word, _LEAST_FOLDED) if column.overflow == "fold" else word)
        return sum(least) + self._extra_width + sum(self._get_padding_width(number) for number in range(len(least)))

    def _records(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Each row as one paragraph, its first cell first, the others with their headers."""
        for row in zip(*(column.cells for column in self.columns), strict=True):
            fields = Text()
            for column, cell in zip(self.columns, row, strict=True):
                value = cell if isinstance(cell, Text) else Text(str(cell))
                if not value.plain:
                    continue
                field = Text.assemble((str(column.header), self.header_style or ""), " ", value)
                # A line ends between two fields, not within one.
                fields.append("\n  " if _is_full(fields, field, options.max_width) else "  " * bool(fields))
                fields.append_text(field)
            yield from _unpadded(console.render(fields, options.update(no_wrap=False, overflow="fold")))


def _is_full(before: Text, field: Text, width: int) -> bool:
    last = before.plain.rpartition("\n")[2]
    return bool(last) and cell_len(last) + 2 + field.cell_len > width


def _unpadded(segments: Iterable[Any]) -> Iterator[Any]:
    """The segments of lines without the spaces at the lines' ends, which are there for a frame."""
    blanks: list[Segment] = []
    for segment in segments:
        if segment.control:
            yield segment
            continue
        for number, piece in enumerate(segment.text.split("\n")):
            if number:
                blanks.clear()
                yield Segment("\n")
            words = piece.rstrip(" ")
            if words:
                yield from blanks
                blanks.clear()
                yield Segment(words, segment.style)
            if piece != words:
                blanks.append(Segment(piece[len(words) :], segment.style))
