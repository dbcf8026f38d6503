"""get_url: download a file."""

import email.utils
import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterator, List, Optional, Tuple

from clusteradm.node import files, paths
from clusteradm.node.context import Context, ModuleFailed
from clusteradm.node.modules.stat import digest

_SCHEMES = ("http", "https", "ftp", "file")


class _Same(Exception):
    """The download has the content that the file already has."""


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Download the file, unless it exists already (with the checksum, if one is given)."""
    dest, url = options["dest"], options["url"]
    result: Dict[str, Any] = {"url": url, "dest": dest, "checksum_src": None, "checksum_dest": None}
    algorithm, wanted = _checksum(options, result)
    force, since = options["force"], None
    if os.path.isfile(dest):
        if wanted and not force:
            if digest(dest, algorithm) == wanted:
                changed = files.attributes(dest, options, context.check)
                msg = "file already exists but file attributes changed" if changed else "file already exists"
                return dict(result, changed=changed, msg=msg, **files.describe(dest))
            force = True
        since = None if force else os.stat(dest).st_mtime
    answer = _ask(url, options, result, "HEAD" if context.check else "GET", since)
    if answer is None:
        return dict(result, changed=False, msg="HTTP Error 304: Not Modified", status_code=304, **files.describe(dest))
    with answer:
        if os.path.isdir(dest):
            dest = os.path.join(dest, _name(answer))
            result["dest"] = dest
        if not os.path.isdir(os.path.dirname(dest) or "."):
            del result["checksum_src"]  # nothing was downloaded
            raise ModuleFailed("Destination %s does not exist" % os.path.dirname(dest), **result)
        if os.path.exists(dest):
            result["checksum_dest"] = digest(dest, "sha1")
        length = answer.headers.get("Content-Length", "unknown")
        result["status_code"] = getattr(answer, "status", None)
        if context.check:
            result["checksum_src"] = hashlib.sha1(answer.read()).hexdigest()  # noqa: S324 - Ansible's key
            result["changed"] = result["checksum_src"] != result["checksum_dest"]
        else:
            result["changed"] = _write(dest, answer, (algorithm, wanted), options, result)
    return dict(result, msg="OK (%s bytes)" % length, **files.describe(dest))


def _write(dest: str, answer: Any, wanted: Tuple[str, str], options: Dict[str, Any], result: Dict[str, Any]) -> bool:
    def prepare(temporary: Any) -> None:
        path = paths.by_descriptor(temporary.fileno())
        result["checksum_src"] = digest(path, "sha1")
        is_so = digest(path, wanted[0]) if wanted[1] else ""
        if is_so != wanted[1]:
            raise ModuleFailed("The checksum for %s did not match %s; it was %s." % (dest, wanted[1], is_so), **result)
        if result["checksum_src"] == result["checksum_dest"]:
            raise _Same
        if options["backup"] and os.path.exists(dest):
            result["backup_file"] = files.backup(dest)
        files.attributes_of(temporary, options)

    try:
        files.write(dest, _pieces(answer, result), follow=False, prepare=prepare)
    except _Same:
        return files.attributes(dest, options, False)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(result["url"], error, **result) from None
    return True


def _pieces(answer: Any, result: Dict[str, Any]) -> Iterator[bytes]:
    length = answer.headers.get("Content-Length")
    received = 0
    for piece in iter(lambda: answer.read(1 << 18), b""):
        received += len(piece)
        yield piece
    if length is not None and received != int(length):
        raise _failed(result["url"], "%d of %s bytes came" % (received, length), **result)


def _ask(url: str, options: Dict[str, Any], result: Dict[str, Any], method: str, since: Optional[float]) -> Any:
    """The open response; None if the server has nothing newer than `since`."""
    if urllib.parse.urlsplit(url).scheme not in _SCHEMES:
        raise ModuleFailed("not a URL of http, https, ftp or file: %s" % url, **result)
    headers = {"User-Agent": "clusteradm"}
    if since is None:
        headers["Cache-Control"] = "no-cache"
    else:
        headers["If-Modified-Since"] = email.utils.formatdate(since, usegmt=True)
    headers.update({str(name): str(value) for name, value in (options["headers"] or {}).items()})
    trust = ssl.create_default_context()
    if not options["validate_certs"]:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - the scheme is checked above
    try:
        return urllib.request.urlopen(request, timeout=options["timeout"], context=trust)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return None
        raise _failed(url, error, status_code=error.code, response=str(error), **result) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failed(url, getattr(error, "reason", None) or error, **result) from None


def _failed(what: str, reason: Any, **result: Any) -> ModuleFailed:
    """The failure of a request, with its URL and why it failed."""
    return ModuleFailed("cannot fetch %s: %s" % (what, reason), **result)


def _name(answer: Any) -> str:
    """The file's name: the server's, or else the last part of the final URL."""
    path = urllib.parse.urlsplit(answer.geturl()).path
    return os.path.basename(answer.headers.get_filename() or "") or os.path.basename(path) or "index.html"


def _checksum(options: Dict[str, Any], result: Dict[str, Any]) -> Tuple[str, str]:
    """Algorithm and digest that the content must have; ("", "") without a checksum."""
    if not options["checksum"]:
        return "", ""
    algorithm, colon, wanted = options["checksum"].partition(":")
    if not colon:
        raise ModuleFailed("The checksum parameter has to be in format <algorithm>:<checksum>", **result)
    if algorithm not in hashlib.algorithms_available:
        raise ModuleFailed("unknown checksum algorithm: %s" % algorithm, **result)
    if urllib.parse.urlsplit(wanted).scheme in _SCHEMES:
        wanted = _listed(wanted, options, result)
    wanted = re.sub(r"\W+", "", wanted).lower()
    if not re.match("[0-9a-f]+$", wanted):
        raise ModuleFailed("The checksum format is invalid", **result)
    return algorithm, wanted


def _listed(url: str, options: Dict[str, Any], result: Dict[str, Any]) -> str:
    """The file's digest in the list of checksums at `url`."""
    with _ask(url, options, dict(result, url=url), "GET", None) as answer:
        lines: List[str] = answer.read().decode("utf-8", "replace").splitlines()
    if len(lines) == 1 and len(lines[0].split()) == 1:
        return lines[0]
    name = os.path.basename(urllib.parse.urlsplit(options["url"]).path) or "index.html"
    for line in lines:
        match = re.match(r"\w+ ?\((?P<path>.+)\) ?= (?P<digest>\w+)$", line)
        match = match or re.match(r"(?P<digest>\w+)\s+\*?(\./)?(?P<path>.+)$", line)
        if match and match.group("path") == name:
            return match.group("digest")
    raise ModuleFailed("Unable to find a checksum for file '%s' in '%s'" % (name, url), **result)
