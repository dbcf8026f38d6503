"""Head of a request over HTTP in its plain form, which nearly every client sends: no two readers differ about it.

Of RFC 9112 it is a part: POST with one Content-Length, or GET without a body; each header once, in ASCII, on a line of
its own. A head that is anything else, damaged or not, is none of these: aiohttp reads it.
"""

import re
from typing import Dict, NamedTuple, Optional

MOST = 8192  # bytes
_END = b"\r\n\r\n"
_FORM = re.compile(
    rb"(GET|POST) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t -~]*\r\n)+)\r\n"
)
_LENGTH = re.compile("[0-9]{1,9}")
# Headers that make the message, or the answer, another one.
_OTHER = frozenset(
    (
        "content-encoding",
        "expect",
        "http2-settings",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class Head(NamedTuple):
    """`size`: of the head itself, and `length` of the body behind it, in bytes; `headers`: their names in lower
    case."""

    method: str
    target: str
    headers: Dict[str, str]
    size: int
    length: int


def plain(data: bytes) -> Optional[Head]:
    """The head at the beginning of `data`; None where that is not a whole head in the plain form."""
    end = data.find(_END, 0, MOST)
    found = _FORM.fullmatch(data, 0, end + 4) if end > 0 else None
    if found is None:
        return None
    method, target, lines = found.groups()
    headers: Dict[str, str] = {}
    count = 0
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
        count += 1
    if len(headers) != count or not headers.get("host") or not _OTHER.isdisjoint(headers):
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    text = headers.get("content-length")
    if method == b"GET":
        return Head("GET", target.decode("ascii"), headers, end + 4, 0) if text is None else None
    if text is None or not _LENGTH.fullmatch(text):
        return None
    return Head("POST", target.decode("ascii"), headers, end + 4, int(text))
