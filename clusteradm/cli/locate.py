"""Have a host show where it is: one of its LEDs blinks, or it beeps where it has none. Not every board has either, and
the command says so.
"""

from __future__ import annotations

import argparse

from clusteradm.cli import context, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.fleet.locate import locate

EXAMPLES = """\
examples:
  clusteradm locate coral-3
  clusteradm locate coral-3 --seconds 120

Afterwards the LED is what it was before.

exit status: 3 where the host has neither LED nor beeper
"""
_SECONDS, _MOST = 30, 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm locate`."""
    parser.add_argument("host", metavar="HOST", help="a host of the inventory")
    parser.add_argument(
        "--seconds",
        type=context.positive,
        default=_SECONDS,
        metavar="S",
        help=f"blink for S seconds, up to {_MOST} (default: %(default)s)",
    )
    context.add_connection_arguments(parser, limit=False, json=False, forks=False, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Blink until the time is over."""
    cluster = context.open_cluster(args)
    host = cluster.host(args.host)
    with context.connect(args, cluster) as connections:
        connections.open([host])
        locate(connections, host, min(args.seconds, _MOST), lambda text: show.message(f"{host.name} {text}"))
    return 0
