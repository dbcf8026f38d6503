"""Write the script that completes commands, options, hosts, groups, models, versions and jobs in a shell. Models and
jobs are asked of the head, if it answers within seconds and asks for no password.
"""

from __future__ import annotations

import argparse

from clusteradm.cli import show

EXAMPLES = """\
examples:
  clusteradm completion bash | tee clusteradm.bash
  clusteradm completion fish | source            in fish, for this session

where it belongs:
  bash  ~/.local/share/bash-completion/completions/clusteradm
  zsh   ~/.zfunc/_clusteradm; in ~/.zshrc, before compinit:
        fpath=(~/.zfunc $fpath)
  fish  ~/.config/fish/completions/clusteradm.fish
"""
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `clusteradm completion`."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Write it."""
    from argcomplete.shell_integration import shellcode  # a tenth of a second that no other command pays

    show.data(shellcode(["clusteradm"], shell=args.shell) + "\n")
    return 0
