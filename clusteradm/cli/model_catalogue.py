"""`clusteradm model catalogue`: the models that Coral publishes, which deploy-model takes by name."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clusteradm.cli import context, show
from clusteradm.cli.parser import Commands
from clusteradm.models import zoo
from clusteradm.node.spec.wire.manifest import TASKS

_EXAMPLES = """\
examples:
  clusteradm model catalogue
  clusteradm model catalogue --task detector
  clusteradm deploy-model coral:mobilenet_v2_1.0_224_quant_edgetpu

Each is there twice: NAME for CPUs, NAME_edgetpu compiled for the Edge TPU. The
time is of one inference with the USB Accelerator, as Coral publishes it. Nothing
is fetched before a model is deployed.
"""


def add_verb(verbs: Commands) -> None:
    """Add the verb and its arguments."""
    verb = verbs.add("catalogue", "list the models that Coral publishes", examples=_EXAMPLES)
    verb.add_argument("--task", choices=TASKS, help="only models for this task")
    context.add_json_argument(verb)
    verb.set_defaults(run_local=_run)


def _run(args: argparse.Namespace) -> int:
    found = [model for model in zoo.models() if args.task in (None, model.task)]
    if args.json:
        show.json_document("model catalogue", {"models": [asdict(model) for model in found]})
        return 0
    table = show.Table()
    for column in ("name", "task", "input", "published ms", "sha256 known"):
        table.add_column(column, justify="right" if column == "published ms" else "left", no_wrap=True)
    for model in found:
        known = [word for word, file in (("CPU", model.cpu), ("Edge TPU", model.compiled)) if file.sha256]
        usb = f"{model.usb:.1f}" if model.usb is not None else "-"
        table.add_row(model.name, model.task, model.input, usb, ", ".join(known) or "-")
    show.stdout.print(table)
    return 0
