"""shell: run a line of shell."""

from typing import Any, Dict

from clusteradm.node.context import Context
from clusteradm.node.modules import command


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Give the line to the shell."""
    return command.execute([options["executable"], "-c", options["cmd"]], options["cmd"], options, context)
