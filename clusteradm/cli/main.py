"""The `clusteradm` program: one command, one module, one exit status."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from clusteradm import __version__
from clusteradm.errors import ClusteradmError, TooManyOpenFiles

# Command, module below clusteradm.cli, one line of help. A module is imported only when its command is parsed:
# the whole of Fabric costs a quarter of a second that `clusteradm --help` need not pay.
COMMANDS = {
    "bootstrap": ("bootstrap", "boards -> working cluster; idempotent"),
    "enroll": ("enroll", "first contact: host keys, the admin's key on every board, passwords off"),
    "health": ("health", "every board and every TPU: one state, one cause, one remedy"),
    "exporter": ("exporter", "health for Prometheus, over HTTP or as a file"),
    "deploy-model": ("deploy_model", "validate a model, store it under a version, verify it from every node"),
    "infer": ("infer", "shard an inference job over every healthy TPU"),
    "job": ("job", "list, show, cancel and remove inference jobs"),
    "drain": ("drain", "take a host or a TPU out of service"),
    "undrain": ("undrain", "bring it back"),
    "tpu": ("tpu", "reset one Edge TPU on its bus"),
    "inventory": ("inventory", "show the inventory as it was understood"),
    "template": ("template", "show a template as a host would get it"),
    "lab": ("lab", "the same with no hardware: a virtual cluster on this machine"),
}

_EXAMPLES = """\
examples:
  clusteradm lab up --nodes 4                                a virtual cluster, its inventory becomes the default
  clusteradm enroll -i inventory.yml                         host keys, and your key on every host
  clusteradm bootstrap inventory.yml                         make a cluster of the hosts in inventory.yml
  clusteradm health                                          what is ill, why, and what to do
  clusteradm deploy-model digits_edgetpu.tflite --name digits
  clusteradm infer --model digits images/ --output results.jsonl

exit status: 0 ok, 1 internal error, 2 usage or bad input file, 3 some hosts failed, 4 unreachable hosts,
5 changes pending (--check --detailed-exit-code), 130 interrupted
"""


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clusteradm",
        description="One Beowulf cluster out of N small machines with Edge TPUs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clusteradm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in argv if word in COMMANDS), None)
    for name, (module_name, summary) in COMMANDS.items():
        if name != wanted:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"clusteradm.cli.{module_name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (DESIGN section 5)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # What is imported now stays to the end. To have the collector go through it again and again, and once more at the
    # exit, took a quarter of this program's processor time in a rerun that changes nothing.
    gc.disable()
    parser = _parser(arguments)
    gc.freeze()
    gc.enable()
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except ClusteradmError as error:
        print(f"clusteradm: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("clusteradm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if TooManyOpenFiles.is_cause(error):
            print(f"clusteradm: {TooManyOpenFiles()}", file=sys.stderr)
            return TooManyOpenFiles.exit_code
        # A defect: keep the traceback, but not on the screen.
        with tempfile.NamedTemporaryFile("w", prefix="clusteradm-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"clusteradm: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"  the traceback is in {log.name}; please report it with the command that you ran", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
