"""Run a virtual cluster on this machine. Its boards are Debian systems in containers, with simulated Edge TPUs. It has
network namespaces of its own; no packet leaves this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from clusteradm.cli import show
from clusteradm.errors import UsageError
from clusteradm.lab import Lab
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.plan import DEFAULT_MEMORY, DEFAULT_NAME
from clusteradm.lab.suites import DEFAULT, SUITES

EXAMPLES = """\
examples:
  clusteradm lab up --nodes 4              boot 4 boards; the other commands use them by default
  clusteradm lab up --name other --tpus 2  a second lab beside the first
  clusteradm lab status                    state of every board
  clusteradm lab ssh w1                    log in by SSH, as to a real board
  clusteradm lab exec head -- lspci -nn    run a command as root, without SSH
  clusteradm lab fault w2 power            cut the power of a board; all faults: clusteradm lab fault --help
  clusteradm lab fault w2 wedged --tpu 1   make one Edge TPU stop answering
  clusteradm lab fault w2 restore          undo all faults of a board
  clusteradm lab compile-model m.tflite    compile for the simulated Edge TPUs; writes m_edgetpu.tflite
  clusteradm lab down                      end the lab and remove its boards
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of `clusteradm lab` and their options."""
    commands = parser.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, run: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("--name", default=DEFAULT_NAME, help="name of the lab (default: %(default)s)")
        sub.set_defaults(run_lab=run)
        return sub

    up = command("up", "start a lab, or boot the boards of one that are off", _up)
    up.add_argument(
        "--nodes", type=int, default=4, metavar="N", help="number of boards, the head included (default: %(default)s)"
    )
    up.add_argument("--tpus", type=int, default=1, metavar="N", help="Edge TPUs per board (default: %(default)s)")
    up.add_argument("--suite", choices=list(SUITES), default=DEFAULT, help="Debian release (default: %(default)s)")
    up.add_argument(
        "--memory", type=int, default=DEFAULT_MEMORY, metavar="MIB", help="memory per board (default: %(default)s)"
    )
    up.add_argument("--python", default="", metavar="PATH", help="ansible_python_interpreter of the inventory")

    status = command("status", "show the state of every board", _status)
    status.add_argument("--json", action="store_true", help="one JSON document on standard output")

    ssh = command("ssh", "log in to a board by SSH, or run a command there", _ssh)
    ssh.add_argument("node", metavar="BOARD")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")

    run = command("exec", "run a command on a board as root, without SSH", _exec)
    run.add_argument("node", metavar="BOARD")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")

    fault = command("fault", "cause a fault on a board, or undo its faults", _fault)
    fault.add_argument("node", metavar="BOARD")
    fault.add_argument("kind", choices=[*FAULTS, "restore"], metavar="FAULT", help="one of the faults below")
    fault.add_argument("--tpu", type=int, metavar="N", help="on its Edge TPU apex_N only (default: on all)")
    fault.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = {
        **{kind: about.summary for kind, about in FAULTS.items()},
        "restore": "undo all faults of the board",
    }
    fault.epilog = "faults:\n" + "".join(f"  {kind:11} {summary}\n" for kind, summary in kinds.items())

    command("down", "end a lab and remove its boards", _down)

    summary = "compile a fully quantised .tflite model for the lab's simulated Edge TPUs"
    compiler = commands.add_parser("compile-model", help=summary, description=summary)
    compiler.add_argument("model", type=Path, metavar="MODEL.tflite")
    compiler.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: MODEL_edgetpu.tflite")
    compiler.set_defaults(run_lab=None)


def run(args: argparse.Namespace) -> int:
    """Run one sub-command; its exit status."""
    if args.run_lab is None:
        return _compile_model(args)
    result: int = args.run_lab(args, Lab(args.name, say=show.message))
    return result


def _up(args: argparse.Namespace, lab: Lab) -> int:
    lab.up(args.nodes, args.tpus, args.suite, memory=args.memory, python=args.python)
    show.message(f"inventory: {lab.inventory}")
    return 0


def _status(args: argparse.Namespace, lab: Lab) -> int:
    status = lab.status()
    if args.json:
        show.json_document("lab status", {"lab": lab.name, **status})
        return 0
    plan = lab.places.read_plan()
    boards = {board.name: board for board in plan.boards} if plan else {}
    width = max(len(node["fault"]) for node in (*status["nodes"].values(), {"fault": "FAULT   "}))
    show.stdout.print(f"{'BOARD':8} {'STATE':9} {'FAULT':{width}} {'ADDRESS':12} LIKE")
    for name, node in status["nodes"].items():
        kind = "Dev Board (Mendel)" if boards[name].mendel else "PC (Debian)"
        show.stdout.print(f"{name:8} {node['state']:9} {node['fault'] or '-':{width}} {boards[name].address:12} {kind}")
    return 0


def _ssh(args: argparse.Namespace, lab: Lab) -> int:
    return _become(lab.ssh_argv(args.node, _command(args.argv)))


def _exec(args: argparse.Namespace, lab: Lab) -> int:
    return _become(lab.exec_argv(args.node, _command(args.argv) or ["bash", "-l"]))


def _fault(args: argparse.Namespace, lab: Lab) -> int:
    if args.kind == "restore":
        lab.restore(args.node)
    else:
        lab.fault(args.node, args.kind, args.tpu)
    return 0


def _down(args: argparse.Namespace, lab: Lab) -> int:
    if not lab.down():
        show.message(f'there is no lab "{lab.name}"')
    return 0


def _compile_model(args: argparse.Namespace) -> int:
    try:
        from clusteradm.lab.compiler import compile_file  # needs the packages of the extra `lab`
    except ModuleNotFoundError as error:
        raise UsageError(
            f"compile-model needs the Python package {error.name}", next_step="try: pip install 'clusteradm[lab]'"
        ) from error
    target: Path = args.output or args.model.with_name(f"{args.model.stem}_edgetpu.tflite")
    compile_file(args.model, target)
    show.message(f"{target}: compiled for the lab's simulated Edge TPU")
    return 0


def _command(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words


def _become(argv: list[str]) -> int:
    """Replace this process by another program, which then has its terminal, signals and exit status."""
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606
