"""slurp: read a file."""

import base64
from typing import Any, Dict

from clusteradm.node import files
from clusteradm.node.modules import Context, Failed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """The content as base64."""
    data = files.read(options["src"])
    if data is None:
        raise Failed("file not found: %s" % options["src"])
    return {"content": base64.b64encode(data).decode("ascii"), "encoding": "base64", "source": options["src"]}
