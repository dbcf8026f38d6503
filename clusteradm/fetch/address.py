"""Addresses of files: which are taken, and how they are named in messages."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clusteradm.errors import UsageError

_LONGEST = 2048
# What a name in the cache, on a host or in a message may have.
_UNSAFE = re.compile(r"[^A-Za-z0-9._+~-]+")


@dataclass(frozen=True)
class Address:
    """A place of a file. `scheme`: https, http or file; `path`: of a file on this machine, else None."""

    text: str
    scheme: str
    host: str
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address; an absolute path is one of scheme file. Raises UsageError."""
        if len(text) > _LONGEST:
            raise UsageError(f"an address has at most {_LONGEST:,} characters", where=text[:60] + "...")
        if text.startswith("/"):
            return cls(text, "file", "", Path(text))
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"it is no address: {error}", where=text) from None
        # Of what a request line and a header are made. urlsplit drops newlines, so that the text is looked at.
        if not re.fullmatch(r"[!-~]+", text):
            raise UsageError("an address has ASCII characters without spaces (others as %XX)", where=text)
        if parts.scheme == "file":
            path = urllib.parse.unquote(parts.path)
            if parts.netloc not in ("", "localhost") or not path.startswith("/"):
                raise UsageError("a file of this machine is named by file:///PATH, or its path", where=text)
            return cls(text, "file", "", Path(path))
        if parts.scheme not in ("https", "http"):
            raise UsageError("neither an https address nor an absolute path", where=text)
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                "an address with a password is not taken: it would be shown and kept",
                where=f"{parts.scheme}://{parts.hostname or ''}",
                next_step="fetch the file by hand, and name its path",
            )
        if not parts.hostname or port == 0:
            raise UsageError("an address has a host: https://HOST/PATH", where=text)
        return cls(text, parts.scheme, parts.hostname, None)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's own."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def shown(self) -> str:
        """The address without query and fragment, which may hold a signature or a token."""
        return self.text if self.path is not None else self.text.split("#", 1)[0].split("?", 1)[0]

    @property
    def requested(self) -> str:
        """What is asked for: without the fragment."""
        return self.text.split("#", 1)[0]

    def joined(self, location: str) -> Address:
        """The address that a redirection leads to. Raises UsageError."""
        try:
            text = urllib.parse.urljoin(self.requested, location)
        except ValueError as error:
            raise UsageError(f"it is no address: {error}", where=location[:200]) from None
        return Address.parse(text)


def name_of(address: str) -> str:
    """The last part of the address, safe as the name of a file; "download" if it has none."""
    path = address if address.startswith("/") else urllib.parse.unquote(urllib.parse.urlsplit(address).path)
    name = _UNSAFE.sub("_", PurePosixPath(path).name).lstrip(".-")
    # A longer one is no name of a file; its end says what it is.
    return name[-200:].lstrip(".-") or "download"
