"""Run a virtual cluster on this machine. Its boards are Debian systems with simulated Edge TPUs, in network namespaces
of their own.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from clusteradm.cli import context, show
from clusteradm.cli.parser import Parser
from clusteradm.lab import Lab
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.machine import require_modules
from clusteradm.lab.plan import DEFAULT_MEMORY, DEFAULT_NAME
from clusteradm.lab.suites import DEFAULT, SUITES
from clusteradm.lab.topology import NETWORKS

EXAMPLES = """\
examples:
  clusteradm lab up --nodes 4              start 4 boards
  clusteradm lab up --name other --tpus 2  start a second lab
  clusteradm lab status                    state of the boards
  clusteradm lab ssh w1                    log in by SSH
  clusteradm lab exec head -- lspci -nn    run a command as root, without SSH
  clusteradm lab fault w2 power            switch a board off
  clusteradm lab fault w2 wedged --tpu 1   make one Edge TPU hang
  clusteradm lab fault w2 restore          undo the faults of a board
  clusteradm lab compile-model m.tflite    write m_edgetpu.tflite
  clusteradm lab down                      stop the boards and remove them

While a lab is up, its inventory is the default of every command.
"""


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm lab`."""
    verbs = parser.add_commands("verb")

    def verb(name: str, summary: str, run: Callable[[argparse.Namespace, Lab], int], examples: str) -> Parser:
        sub = verbs.add(name, summary, examples=examples)
        sub.set_defaults(run_lab=run)
        return sub

    up = verb("up", "start the boards, or complete a lab that is partly up", _up, _UP)
    up.add_argument(
        "--nodes", type=context.positive, default=4, metavar="N", help="boards, with the head (%(default)s)"
    )
    up.add_argument("--tpus", type=int, default=1, metavar="N", help="Edge TPUs per board (default: %(default)s)")
    up.add_argument("--usb", type=int, default=0, metavar="N", help="USB Accelerators per board (default: %(default)s)")
    up.add_argument(
        "--suite",
        default=DEFAULT,
        metavar="RELEASE,...",
        help=f"Debian releases of the boards, in turn: {', '.join(SUITES)} (default: %(default)s)",
    )
    up.add_argument(
        "--memory",
        type=context.positive,
        default=DEFAULT_MEMORY,
        metavar="MIB",
        help="memory per board (default: %(default)s)",
    )
    up.add_argument(
        "--network",
        default="",
        metavar="TOOL,...",
        help=f"network tools of the boards, in turn: {', '.join(NETWORKS)} (default: NetworkManager on Dev Boards, a "
        "mixture on PCs)",
    )
    up.add_argument("--python", default="", metavar="PATH", help="ansible_python_interpreter of the inventory")

    status = verb("status", "show the state of the boards", _status, _STATUS)
    context.add_json_argument(status)

    ssh = verb("ssh", "log in to a board by SSH, or run a command there", _ssh, _SSH)
    run = verb("exec", "run a command on a board as root, without SSH", _exec, _EXEC)
    fault = verb("fault", "inject a fault into a board, or undo its faults", _fault, _FAULT)
    for sub in (ssh, run, fault):
        sub.add_argument("node", metavar="BOARD", help="name of the board")
    for sub in (ssh, run):
        sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="program and arguments")
    fault.add_argument("kind", choices=[*FAULTS, "restore"], metavar="FAULT", help="one of the list below")
    fault.add_argument("--tpu", type=int, metavar="N", help="only the Edge TPU apex_N (default: all of the board)")
    down = verb("down", "stop the boards and remove them", _down, _DOWN)
    for sub in (up, status, ssh, run, fault, down):
        sub.add_argument("--name", default=DEFAULT_NAME, help="name of the lab (default: %(default)s)")

    summary = "compile a quantised model for the lab's simulated Edge TPUs"
    compiler = verbs.add("compile-model", summary, examples=_COMPILE)
    compiler.add_argument("model", type=Path, metavar="MODEL.tflite", help="model to compile")
    compiler.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: MODEL_edgetpu.tflite")
    compiler.set_defaults(run_lab=None)


_UP = """\
examples:
  clusteradm lab up                    4 boards with an Edge TPU each
  clusteradm lab up --nodes 8 --tpus 2
  clusteradm lab up --name other       a second lab
  clusteradm lab up --network networkd,ifupdown
  clusteradm lab up --suite bookworm,trixie,trixie
"""
_STATUS = """\
examples:
  clusteradm lab status
  clusteradm lab status --json
"""
_SSH = """\
examples:
  clusteradm lab ssh w1
  clusteradm lab ssh w1 -- uname -a
"""
_EXEC = """\
examples:
  clusteradm lab exec w1
  clusteradm lab exec head -- lspci -nn
"""
_FAULT = f"""\
faults:
{"".join(f"  {kind:11} {about.summary}{chr(10)}" for kind, about in FAULTS.items())}\
  restore     undo every fault of the board

examples:
  clusteradm lab fault w2 power
  clusteradm lab fault w2 wedged --tpu 1
  clusteradm lab fault w2 restore
"""
_DOWN = """\
examples:
  clusteradm lab down
  clusteradm lab down --name other
"""
_COMPILE = """\
examples:
  clusteradm lab compile-model digits.tflite
  clusteradm lab compile-model digits.tflite -o out.tflite
"""


def run(args: argparse.Namespace) -> int:
    """Run one sub-command; its exit status."""
    if args.run_lab is None:
        return _compile_model(args)
    result: int = args.run_lab(args, Lab(args.name, say=show.message))
    return result


def _up(args: argparse.Namespace, lab: Lab) -> int:
    networks = args.network.split(",") if args.network else ()
    suites = args.suite.split(",")
    lab.up(args.nodes, args.tpus, suites, memory=args.memory, python=args.python, networks=networks, usb=args.usb)
    show.message(f"inventory: {lab.inventory}\n  clusteradm bootstrap -i {shlex.quote(str(lab.inventory))}")
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
        board = boards[name]
        kind = f"{'Dev Board (Mendel)' if board.mendel else 'PC (Debian)'}, {board.suite}, {board.network}"
        fault = show.line(node["fault"] or "-")
        show.stdout.print(f"{name:8} {node['state']:9} {fault:{width}} {board.address:12} {kind}")
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
    require_modules()
    from clusteradm.lab.compiler import compile_file  # needs the packages of the extra `lab`

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
