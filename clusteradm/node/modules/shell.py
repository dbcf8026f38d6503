"""shell: run a shell command."""

from typing import Any, Dict

from clusteradm.node.context import Context
from clusteradm.node.modules import command


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Run the command with the shell."""
    return command.execute([options["executable"], "-c", options["cmd"]], options["cmd"], options, context)
