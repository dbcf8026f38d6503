"""slurp: read a file."""

import base64
import os
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """The content, in base64."""
    source = options["src"]
    if os.path.isdir(source):
        raise ModuleFailed("Source is a directory and must be a file: %s" % source)
    data = files.read(source)
    if data is None:
        raise ModuleFailed("File not found: %s" % source)
    return {"content": base64.b64encode(data).decode("ascii"), "encoding": "base64", "source": source}
