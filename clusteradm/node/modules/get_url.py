"""get_url: a file from a URL."""

import hashlib
import os
import urllib.request
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Fetch it, unless the file is there already (and has the checksum, where one is named)."""
    dest, url = options["dest"], options["url"]
    if os.path.isdir(dest):
        dest = os.path.join(dest, os.path.basename(url.split("?")[0]))
    before = files.read(dest)
    result: Dict[str, Any] = {"url": url, "dest": dest}
    if before is not None and not options["force"] and _fits(before, options["checksum"]):
        return dict(result, changed=files.attributes(dest, options, context.check), msg="file already exists")
    if context.check:
        return dict(result, changed=True)
    if url.split(":")[0] not in ("http", "https", "ftp", "file"):
        raise Failed("not a URL that can be fetched: %s" % url, **result)
    try:
        with urllib.request.urlopen(url, timeout=options["timeout"]) as answer:  # noqa: S310 - the scheme is checked above
            data = answer.read()
    except (OSError, ValueError) as error:
        raise Failed("Request failed: %s: %s" % (url, getattr(error, "reason", None) or error), **result) from None
    if not _fits(data, options["checksum"]):
        raise Failed("The checksum for %s did not match %s" % (dest, options["checksum"]), **result)
    result.update(files.replace(dest, before, data, options, context))
    return result


def _fits(data: bytes, checksum: str) -> bool:
    if not checksum:
        return True
    kind, _, wanted = checksum.partition(":")
    try:
        return hashlib.new(kind, data).hexdigest() == wanted.lower()
    except ValueError:
        raise Failed("unknown kind of checksum: %s" % kind) from None
