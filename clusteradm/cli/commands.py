"""The commands of `clusteradm`, and the parser for a command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from clusteradm import __version__
from clusteradm.cli.parser import Parser

# Command: module below clusteradm.cli, one line of help. A module is imported only when its command is parsed: Fabric
# costs a quarter of a second that `clusteradm --help` need not pay.
COMMANDS = {
    "bootstrap": ("bootstrap", "make a cluster of the hosts in the inventory; idempotent"),
    "enroll": ("enroll", "verify host keys, install your SSH key, turn passwords off"),
    "health": ("health", "check every host and every TPU: state, cause, remedy"),
    "top": ("top", "watch hosts, TPUs and jobs on one live screen"),
    "exporter": ("exporter", "export health metrics to Prometheus"),
    "deploy-model": ("deploy_model", "store a model on the cluster and verify it on every host"),
    "model": ("model", "convert and inspect model files, list the models on the cluster"),
    "infer": ("infer", "run a model over many inputs, on every healthy TPU"),
    "bench": ("bench", "measure the speed-up of the TPUs, and each TPU alone"),
    "job": ("job", "list, show, cancel and remove inference jobs"),
    "serve": ("serve", "serve models over HTTP and gRPC: one endpoint for all TPUs"),
    "exec": ("exec", "run a shell command on hosts, all at once"),
    "ssh": ("ssh", "log in to a host by ssh, as the inventory says"),
    "discover": ("discover", "find boards on the network"),
    "locate": ("locate", "have a host blink or beep"),
    "push": ("push", "copy files and folders to hosts"),
    "pull": ("pull", "copy files and folders of hosts to this machine"),
    "reboot": ("reboot", "reboot hosts, all at once or in turns"),
    "poweroff": ("poweroff", "switch hosts off"),
    "drain": ("drain", "take a host or TPU out of service"),
    "undrain": ("undrain", "return a host or TPU to service"),
    "tpu": ("tpu", "reset an Edge TPU"),
    "inventory": ("inventory", "write a new inventory, or show one as it was read"),
    "packages": ("packages", "show the packages that were accepted from addresses and files"),
    "playbook": ("playbook", "show where the shipped playbooks are"),
    "template": ("template", "show a template as rendered for a host"),
    "k8s": ("k8s", "write Kubernetes manifests for the boards and their TPUs"),
    "device-plugin": ("device_plugin", "give the TPUs of this machine to pods of Kubernetes"),
    "lab": ("lab", "run a virtual cluster on this machine"),
    "completion": ("completion", "write the script that completes commands in a shell"),
    "help": ("help", "show the help of a command"),
}

_EXAMPLES = """\
examples:
  clusteradm lab up --nodes 4         start a virtual cluster of 4 boards
  clusteradm inventory init           write an inventory of your boards
  clusteradm enroll -i inventory.yml  accept host keys, install your SSH key
  clusteradm bootstrap inventory.yml  make a cluster of the hosts
  clusteradm health                   what is wrong, why, and what to do
  clusteradm deploy-model digits_edgetpu.tflite --name digits
  clusteradm infer --model digits images/ --output results.jsonl
  clusteradm serve up                 an endpoint for models, on every board
  clusteradm help health              options and examples of a command

exit status:
  0    success
  1    internal error
  2    wrong usage or a bad input file
  3    some hosts failed
  4    some hosts are unreachable
  5    changes are pending (bootstrap --check --detailed-exit-code)
  130  interrupted
"""


def parser(argv: Sequence[str]) -> Parser:
    """The parser for these words, complete for the command that they begin with."""
    whole = Parser(
        prog="clusteradm",
        description="Provision, check and use a Beowulf cluster of machines with Edge TPUs.",
        epilog=_EXAMPLES,
    )
    whole.add_argument(
        "-V", "--version", action="version", version=f"clusteradm {__version__}", help="show the version and exit"
    )
    commands = whole.add_commands("command")
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, (module_name, summary) in COMMANDS.items():
        if name != wanted:
            commands.add(name, summary)
            continue
        module = importlib.import_module(f"clusteradm.cli.{module_name}")
        command = commands.add(name, summary, description=module.__doc__, examples=module.EXAMPLES)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return whole


def command_of(args: argparse.Namespace) -> str:
    """The command that was parsed, with its verb: "health", "lab up"."""
    return " ".join(word for word in (args.command, getattr(args, "verb", None)) if word)
