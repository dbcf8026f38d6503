"""What the headers of an answer say of a file. They are a stranger's: what is not well-formed is not believed."""

from __future__ import annotations

import http.client
import re

from clusteradm.fetch.errors import Broken, FetchFailed, Restart
from clusteradm.fetch.exchange import Answer
from clusteradm.fetch.store import Version

# Statuses of a server that may answer otherwise in a moment.
_AGAIN = {408, 429, 500, 502, 503, 504}
_NEXT_STEPS = {
    401: "fetch it by hand where a login is needed, and name its path",
    403: "fetch it by hand where a login is needed, and name its path",
    404: "see that the address is right, and that the file is still there",
    410: "see that the address is right, and that the file is still there",
}


def version(answer: Answer, where: str) -> Version:
    """What an answer with the whole file says of it. Raises FetchFailed."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise FetchFailed(f"the server sends it encoded ({encoding[:40]}), against the request", where=where)
    etag = answer.headers.get("ETag")
    # A weak one (W/"...") is equal for files that differ (RFC 9110, 13.1.5).
    strong = etag is not None and re.fullmatch(r'"[!#-~]{0,1000}"', etag)
    modified = answer.headers.get("Last-Modified")
    dated = modified is not None and re.fullmatch(r"[A-Za-z0-9,: ]{1,40}", modified)
    return Version(etag if strong else None, modified if dated else None, _total(answer, where))


def _total(answer: Answer, where: str) -> int | None:
    lengths = {text.strip() for text in answer.headers.get_all("Content-Length", [])}
    if _is_chunked(answer) or not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", min(lengths)):
        raise FetchFailed("the server gives no proper Content-Length", where=where)
    return int(min(lengths))


def _is_chunked(answer: Answer) -> bool:
    return bool(answer.headers.get("Transfer-Encoding", "").strip().lower() == "chunked")


def shows_a_cut(answer: Answer) -> bool:
    """Whether the end of the body can be told from a broken connection."""
    return _is_chunked(answer) or "Content-Length" in answer.headers


def end(answer: Answer, offset: int, known: Version) -> int:
    """The size of the file after an answer with the part from `offset` on.

    `known`: what was said of the file before. Raises Restart where the answer is of another place or file.
    """
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
    if not found or "Content-Encoding" in answer.headers:
        raise Restart
    first, last, total = map(int, found.groups())
    if first != offset or not first <= last < total or total != known.total:
        raise Restart
    for name, noted in (("ETag", known.etag), ("Last-Modified", known.modified)):
        if noted is not None and answer.headers.get(name) not in (None, noted):
            raise Restart
    return last + 1


def refused(answer: Answer, where: str) -> Exception:
    """The error of an answer that has no file: Broken where it may have one in a moment, else FetchFailed."""
    status = answer.status
    said = f"the server answers {status} {http.client.responses.get(status, '')}".rstrip()
    if status in _AGAIN:
        after = answer.headers.get("Retry-After", "").strip()
        return Broken(said, float(after) if re.fullmatch(r"[0-9]{1,6}", after) else None)
    return FetchFailed(said, where=where, next_step=_NEXT_STEPS.get(status, ""))
