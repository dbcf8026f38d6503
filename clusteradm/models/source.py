"""Source of a model file: a path, an https address, or a name of Coral's zoo (coral:NAME)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clusteradm.errors import UsageError
from clusteradm.fetch import Progress, fetch, name_of
from clusteradm.models import zoo
from clusteradm.models.manifest import check_name
from clusteradm.models.tflite.model import MOST_BYTES
from clusteradm.models.zoo import COMPILED

ZOO = "coral:"


@dataclass(frozen=True)
class Source:
    """Where a model comes from. `path`: of a file on this machine, else None; `sha256`: which the file must have, None
    where nobody says."""

    text: str
    address: str
    path: Path | None
    sha256: str | None

    @classmethod
    def parse(cls, text: str, sha256: str | None = None) -> Source:
        """Read a path, an address or coral:NAME. Raises UsageError, also for an address without `sha256`."""
        if sha256 is not None:
            sha256 = sha256.lower()
            if not re.fullmatch("[0-9a-f]{64}", sha256):
                raise UsageError("--sha256 has 64 digits of 0-9 and a-f", next_step="sha256sum FILE prints it")
        if text.startswith(ZOO):
            file = zoo.find(text.removeprefix(ZOO))
            if None not in (sha256, file.sha256) and sha256 != file.sha256:
                raise UsageError(f"--sha256 is not that of {text}, which has {file.sha256}")
            return cls(text, file.address, None, sha256 or file.sha256)
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
            if sha256 is None:
                raise UsageError(
                    "a model from an address is taken with its sha256 alone: who else says that it is the right file?",
                    where=text,
                    next_step="--sha256, as its publisher says it, or as sha256sum prints it of a copy that you trust",
                )
            return cls(text, text, None, sha256)
        return cls(text, "", Path(text), sha256)

    @property
    def called(self) -> str:
        """Name of the file at its address; "" for one of this machine, which has its path."""
        return name_of(self.address) if self.path is None else ""

    def name(self, wanted: str | None) -> str:
        """The model's name: the one that is wanted, else one made of the file's at its address. Raises UsageError."""
        if wanted is None and self.path is not None:
            raise UsageError("a file is deployed under a name", next_step="for instance: --name mobilenet_v2")
        stem = self.called.removesuffix(".tflite").removesuffix(COMPILED)
        return check_name(wanted if wanted is not None else re.sub("[^a-zA-Z0-9_-]+", "_", stem))

    def local(self, progress: Callable[[Progress], None] | None = None) -> tuple[Path, str]:
        """The file on this machine, fetched once, and the sha256 that it has to have; "" where nobody says.

        Raises UsageError, FetchFailed, WrongContent. A file of this machine is not read: whoever reads it compares what
        he has read (upload.prepare), for it may be replaced meanwhile.
        """
        if self.path is None:
            found = fetch(self.address, sha256=self.sha256, most=MOST_BYTES, progress=progress)
            return found.path, found.sha256
        return self.path, self.sha256 or ""
