"""Forms: multipart/form-data (RFC 7578) of a body that has been read."""

import re
from typing import Dict, Optional

from clusteradm.node.serve.plane import INVALID, Refusal

_BOUNDARY = re.compile(
    r'^multipart/form-data\s*;.*?\bboundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE | re.DOTALL
)
_NAME = re.compile(
    rb'^content-disposition:\s*form-data\s*;.*?\bname=(?:"([^"]{0,100})"|([^\s";]{1,100}))', re.IGNORECASE
)
_MOST_PARTS = 64
_MOST_HEAD = 4096


def read(kind: Optional[str], body: bytes) -> Dict[str, bytes]:
    """Fields by name, of a repeated one the first. `kind`: the Content-Type. Raises Refusal."""
    found = _BOUNDARY.match(kind or "")
    if found is None:
        raise Refusal(INVALID, "a request is a form (multipart/form-data), with the picture in the field image")
    boundary = b"--" + (found.group(1) or found.group(2)).encode("latin-1", "replace")
    if not body.startswith(boundary):
        body = b"\r\n" + body  # a preamble
        boundary = b"\r\n" + boundary
        at = body.find(boundary)
    else:
        at = 0
    fields: Dict[str, bytes] = {}
    mark = boundary if boundary.startswith(b"\r\n") else b"\r\n" + boundary
    at += len(boundary)
    for _ in range(_MOST_PARTS):
        if at < len(boundary):
            break
        if body[at : at + 2] == b"--":
            return fields
        start = body.find(b"\r\n", at)
        head = body.find(b"\r\n\r\n", at, at + _MOST_HEAD)
        end = body.find(mark, max(head, at))
        if start < 0 or head < 0 or end < 0:
            break
        names = [_NAME.match(line) for line in body[start + 2 : head].split(b"\r\n")]
        name = next(((each.group(1) or each.group(2) or b"") for each in names if each), b"")
        fields.setdefault(name.decode("utf-8", "replace"), body[head + 4 : max(end, head + 4)])
        at = end + len(mark)
    raise Refusal(INVALID, "the form is damaged, cut short, or has more than %d fields" % _MOST_PARTS)
