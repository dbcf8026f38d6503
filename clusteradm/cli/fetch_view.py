"""View of files that are fetched: a bar on a terminal, elsewhere a line where it takes longer than it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from clusteradm.cli import show
from clusteradm.cli.display import Display, stopped
from clusteradm.fetch import Progress as FileProgress


@contextmanager
def showing() -> Iterator[Callable[[FileProgress], None]]:
    """The bar of the file that is fetched within the block: give what it yields to `fetch` as `progress`."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Disabled, as Display draws it.
    bars = Progress(*columns, console=show.stderr, disable=True)
    name = said = ""
    # In the place of the display of a playbook, which waits for the file.
    with stopped(), Display(show.stderr, bars.get_renderable):
        task = bars.add_task("", total=None)

        def update(state: FileProgress) -> None:
            nonlocal name, said
            if state.name != name:
                # So that the speed is that of this file.
                bars.reset(task, total=None)
                name = state.name
            words = f"{state.name}: {state.note}" if state.note else state.name
            bars.update(task, description=words, completed=state.done, total=state.total)
            if words != said and state.note and not show.stderr.is_terminal:
                show.message(words)
            said = words

        yield update
