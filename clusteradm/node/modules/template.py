"""template: put a body, rendered by the admin side, in its place."""

import hashlib
import os
from typing import Any, Dict

from clusteradm.node import blobs, files
from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Write the body named by `blob` to `dest` (or into the directory `dest`, under the name of `src`)."""
    dest = options["dest"]
    if os.path.isdir(dest):
        dest = os.path.join(dest, os.path.basename(options["src"] or "").replace(".j2", ""))
    body = blobs.body(options["blob"])
    if body is None:
        raise Failed("the rendered body of %s did not arrive" % dest)
    before = files.read(dest)
    if before is not None and not options["force"]:
        return {"dest": dest, "changed": files.attributes(dest, options, context.check)}
    result = files.replace(dest, before, body, options, context)
    result.update(dest=dest, checksum=hashlib.sha1(body).hexdigest())  # noqa: S324 - Ansible's key holds a SHA-1
    return result
