"""Write a new inventory, with comments: from options, or from answers to questions."""

from __future__ import annotations

import argparse
import getpass
import itertools
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clusteradm.cli import discover, display, show
from clusteradm.cli.parser import Parser
from clusteradm.errors import InputErrors, UsageError
from clusteradm.fleet import discovery
from clusteradm.inventory import load
from clusteradm.inventory.skeleton import KINDS, LOCAL, Skeleton, hosts
from clusteradm.inventory.variables import CONNECTION, VARIABLES, Variable, complaint
from clusteradm.transport.ssh_config import files

EXAMPLES = """\
examples:
  clusteradm inventory init                    asks, and writes inventory.yml
  clusteradm inventory init --head 192.168.1.60 --compute '192.168.1.[61:63]'
  clusteradm inventory init --discover         of the boards on the network
  clusteradm inventory init --kind pc --head local --output site.yml \\
      --compute pc-1=192.168.1.71 --interface enp3s0 --tpus 8

A host is [NAME=]ADDRESS, where ranges stand for several; "local" is this
machine. A file that exists is not overwritten.
"""

DEFAULT = Path("inventory.yml")
# Keys that are proposed: the first that is there.
_KEYS = ("~/.ssh/clusteradm", "~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


def add_arguments(parser: Parser) -> None:
    """The options of `clusteradm inventory init`."""
    parser.add_argument(
        "-o", "--output", type=Path, default=DEFAULT, metavar="FILE", help="file to write (default: %(default)s)"
    )
    parser.add_argument("--head", metavar="HOST", help="the head: [NAME=]ADDRESS, or local for this machine")
    parser.add_argument("--compute", nargs="+", metavar="HOST", help="the compute nodes")
    parser.add_argument(
        "--discover", action="store_true", help="find the hosts: boards that announce themselves by mDNS"
    )
    discover.add_search_arguments(parser)
    parser.add_argument("--kind", choices=list(KINDS), default="dev-board", help="machines (default: %(default)s)")
    parser.add_argument("--cluster", metavar="NAME", help="name of the cluster (default: cluster)")
    parser.add_argument("--user", metavar="USER", help="login user (default: mendel for dev-board)")
    parser.add_argument("--key", metavar="FILE", help="your private key")
    parser.add_argument("--subnet", metavar="NETWORK", help="the private network (default: 10.20.0.0/24)")
    parser.add_argument("--interface", metavar="NAME", help="its interface (default: eth0; enp2s0 for pc)")
    parser.add_argument("--tpus", type=int, metavar="N", help="Edge TPUs of each host (default: 1; 8 for pc)")


def run(args: argparse.Namespace) -> int:
    """Ask what was not given, if there is a person and no host was; write, check, say what is next."""
    if args.output.exists():
        raise UsageError(
            f"{args.output} exists, and is not overwritten", next_step="name another file, or edit that one"
        )
    if args.discover:
        _discover(args)
    elif args.scan:
        raise UsageError("--scan is for --discover")
    if args.head is None:
        if not display.can_ask():
            raise UsageError(
                "--head is missing, and there is no terminal to ask on",
                next_step="clusteradm inventory init --head ADDRESS --compute ADDRESS ...",
            )
        _ask(args)
    elif args.key is None and not files() and (args.compute or args.head.rpartition("=")[2] != LOCAL):
        args.key = _key()
    text = _skeleton(args).text()
    _check(text)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with args.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {args.output}: {error.strerror}") from None
    named = "" if args.output == DEFAULT else f" -i {shlex.quote(str(args.output))}"
    make = f"  ssh-keygen -t ed25519 -f {args.key}\n" if _is_to_be_made(args.key) else ""
    show.message(f"{args.output} is written. Look through it, then:\n{make}  clusteradm enroll{named}")
    return 0


def _discover(args: argparse.Namespace) -> None:
    """Find the hosts, as if they had been given: the head first, unless it was named. Raises UsageError."""
    if args.compute:
        raise UsageError("--discover finds the compute nodes: without --compute")
    boards = discover.search(args)
    chosen = [board for board in boards if {"mdt", discovery.SCANNED} & {*board.how} and board.key]
    if boards:
        discover.show_table(boards)
    for board in boards:
        if board not in chosen:
            show.message(f"{board.address} is left out: nothing says that it is a board; {board.note or 'name it'}")
    named = args.head.rpartition("=")[2] if args.head else None
    chosen = [board for board in chosen if board.address != named]
    if not chosen:
        raise UsageError("no board was found", next_step="scan a range: --discover --scan 192.168.1.0/24, or name them")
    words = [f"{name}={board.address}" for name, board in zip(_names(args, chosen), chosen, strict=True)]
    args.head = args.head or words.pop(0)
    args.compute = words


def _names(args: argparse.Namespace, boards: Sequence[discovery.Board]) -> Iterator[str]:
    """A name for each: what it announces, if no other has it and no group; else the next free one of its kind."""
    prefix = KINDS[args.kind].prefix
    others = [*_GROUPS, *(host.name for host in hosts([args.head] if args.head else [], prefix, 0))]
    announced = [board.name for board in boards]
    taken = {*others, *announced}
    free = (name for number in itertools.count() if (name := f"{prefix}-{number}") not in taken)
    for name in announced:
        yield name if name and announced.count(name) == 1 and name not in others else next(free)


_GROUPS = ("all", "ungrouped", "head", "compute", "localhost")


def _key() -> str:
    """The first of the usual keys that is there; the first, which is to be made, where none is."""
    return next((key for key in _KEYS if Path(key).expanduser().is_file()), _KEYS[0])


def _is_to_be_made(key: str | None) -> bool:
    """Whether it is the key that is proposed, and not there yet."""
    return key == _KEYS[0] and not Path(key).expanduser().exists()


def _skeleton(args: argparse.Namespace) -> Skeleton:
    kind = KINDS[args.kind]
    (head, *more) = hosts([args.head], kind.prefix, 0)
    if more:
        raise UsageError(f"--head {args.head} stands for {1 + len(more)} hosts", next_step="the others: --compute")
    compute = hosts(args.compute or (), kind.prefix, 1)
    names = [head.name, *(host.name for host in compute)]
    if len(set(names)) < len(names):
        raise UsageError(f"two hosts have one name: {', '.join(names)}", next_step="give names: NAME=ADDRESS")
    subnet = args.subnet or Skeleton.subnet
    if (wrong := complaint(VARIABLES["cluster_subnet"], subnet)) is not None:
        raise UsageError(wrong)
    return Skeleton(
        head,
        tuple(compute),
        cluster=args.cluster or Skeleton.cluster,
        user=args.user or kind.user,
        key=args.key,
        subnet=subnet,
        interface=args.interface or kind.interface,
        tpus=kind.tpus if args.tpus is None else args.tpus,
    )


def _check(text: str) -> None:
    """Raise UsageError with the defects that the text has as an inventory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inventory.yml"
        path.write_text(text, encoding="utf-8")
        try:
            load(path)
        except InputErrors as error:
            raise UsageError("\n".join(problem.message for problem in error.problems)) from None


def _ask(args: argparse.Namespace) -> None:
    """Ask for what the options do not say; each answer is checked at once."""
    show.message("A new inventory. Enter takes the value in brackets; Ctrl-C ends without a file.")
    if args.kind == "dev-board":
        about = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
        args.kind = _answer(f"machines ({about})", "dev-board", lambda text: text if text in KINDS else None)
    kind = KINDS[args.kind]
    args.cluster = args.cluster or _variable("name of the cluster", "cluster_name", "cluster")
    args.head = _answer("address or ssh alias of the head (local: this machine)", "", _hosts(1))
    args.compute = (
        args.compute
        or _answer(
            "addresses of the other hosts, with blanks between them (192.168.1.[61:63] are three)", "-", _hosts(None)
        ).split()
    )
    args.compute = [] if args.compute == ["-"] else args.compute
    if args.user is None and (args.compute or args.head.rpartition("=")[2] != LOCAL):
        args.user = _variable("login user, who may use sudo", "ansible_user", kind.user or getpass.getuser())
    if args.key is None and not files():
        args.key = _variable("your private key", "ansible_ssh_private_key_file", _key())
    args.subnet = args.subnet or _variable("private network of the cluster", "cluster_subnet", Skeleton.subnet)
    args.interface = args.interface or _variable("its interface on the hosts", "cluster_interface", kind.interface)
    if args.tpus is None:
        args.tpus = int(
            _answer("Edge TPUs of each host", str(kind.tpus), lambda text: text if text.isdecimal() else None)
        )


def _variable(question: str, name: str, default: str) -> str:
    variable: Variable = {**VARIABLES, **CONNECTION}[name]

    def fits(text: str) -> str | None:
        wrong = complaint(variable, text)
        if wrong:
            show.message(f"  {wrong}")
        return None if wrong else text

    return _answer(question, default, fits)


def _hosts(count: int | None) -> Callable[[str], str | None]:
    """Check of an answer: the words stand for `count` hosts; None: for any number, or "-" for none."""

    def fits(text: str) -> str | None:
        words = text.split()
        if count is None and words in ([], ["-"]):
            return "-"
        try:
            found = hosts(words, "x", 0)
        except UsageError as error:
            show.message(f"  {error}")
            return None
        addresses = [host.address for host in found if host.address != LOCAL]
        wrong = [bad for address in addresses if (bad := complaint(CONNECTION["ansible_host"], address))]
        for bad in wrong[:1]:
            show.message(f"  {bad}")
        return " ".join(words) if found and not wrong and (count is None or len(found) == count) else None

    return fits


def _answer(question: str, default: str, fits: Callable[[str], Any]) -> str:
    """The first answer that fits. Raises UsageError at the end of input."""
    while True:
        text = display.ask(f"{question} [{default}]: " if default else f"{question}: ")
        if text is None:
            raise UsageError("no answer: nothing is written")
        found = fits(text.strip() or default)
        if found is not None:
            return str(found)
        show.message("  that does not fit; once more:")
