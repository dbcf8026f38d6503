"""The errors of fetching a file."""

from __future__ import annotations

from clusteradm.errors import ClusteradmError


class FetchFailed(ClusteradmError):
    """A file cannot be fetched: no network, no such file, cut off for good, too large, no room to keep it."""


class WrongContent(FetchFailed):
    """What an address gives is not the file that is expected.

    `sha256`: what was found, None where it was refused by its size; `size`: in bytes.
    """

    def __init__(
        self, what: str, *, where: str = "", next_step: str = "", sha256: str | None = None, size: int | None = None
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.sha256 = sha256
        self.size = size


class Broken(Exception):
    """One attempt that ended early; another one may go on from there. Never leaves this package.

    `patience`: seconds that the server asks to wait before the next.
    """

    def __init__(self, reason: str, patience: float | None = None) -> None:
        super().__init__(reason)
        self.patience = patience


class Restart(Exception):
    """An answer that does not go on from the part that is here: it is fetched anew. Never leaves this package."""
