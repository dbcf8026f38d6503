"""Commands that a message tells the person to run, completed so that they can be pasted.

A message is written where its reason is known, and names a command without the options of this run: "clusteradm job
list". Here it gets them: the inventory, the hosts (--limit), the file of host keys and -K, where that command takes
them.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

# Commands that read an inventory, by what else they take. `tests/unit/cli/test_next_step.py` compares with the parsers.
_READING = ("inventory", "template show", "packages list", "packages forget")
_CONNECTING = (
    *("drain", "undrain", "locate", "tpu reset", "model list", "model show"),
    *("model label", "model unlabel", "model rollback", "model remove", "model split"),
    *("serve up", "serve down", "serve deploy", "serve canary", "serve label", "serve undeploy"),
    *("serve drain", "serve undrain", "serve status", "serve logs"),
    *("job list", "job show", "job attach", "job results", "job logs", "job cancel", "job resume", "job remove"),
)
_KNOWING = ("ssh", "discover")
_LIMITED = (
    *("bootstrap", "enroll", "exec", "push", "pull", "reboot", "poweroff", "health", "top", "exporter", "infer"),
    *("bench", "deploy-model", "k8s", "model verify"),
)
COMMANDS = {
    **dict.fromkeys(_READING, ("inventory",)),
    **dict.fromkeys(_KNOWING, ("inventory", "known_hosts")),
    **dict.fromkeys(_CONNECTING, ("inventory", "known_hosts", "ask_become_pass")),
    **dict.fromkeys(_LIMITED, ("inventory", "limit", "known_hosts", "ask_become_pass")),
}
# `clusteradm bootstrap`, with the options that the message gives it: up to the end of the line, a sign of the sentence
# around it, or the word after the last option.
_COMMAND = re.compile(rf"(?<![\w/.-])clusteradm ({'|'.join(COMMANDS)})(?![\w-])(?P<rest>[^\n;`,()]*)")
# With these, the hosts are given: no --limit beside them.
_OWN_HOSTS = re.compile(r"--(limit|retry-failed|attach|from)\b")
# The words of a sentence that asks for other hosts than those of this run.
_MORE_HOSTS = re.compile(r"[^.;\n]*\b(without --limit|on the head as well)\b")
# Playbooks are Ansible's too, and do not name the program.
_BOOTSTRAP = re.compile(r"\b(?:(?P<run>[Rr]un)|(?P<then>[Tt]hen)) bootstrap\b(?=(?: again| without)\b)")


def complete(text: str, args: argparse.Namespace) -> str:
    """The text, each command in it with the options of the run `args` that it needs to work on the same hosts."""

    def one(found: re.Match[str]) -> str:
        rest = found["rest"]
        own_hosts = bool(_OWN_HOSTS.search(rest.split(". ")[0]) or _MORE_HOSTS.match(found.string, found.start("rest")))
        return " ".join(["clusteradm", found[1], *_options(found[1], rest, args, own_hosts)]) + rest

    text = _BOOTSTRAP.sub(lambda found: f"{found['run'] or found['then'] + ' run'} clusteradm bootstrap", text)
    return _COMMAND.sub(one, text)


def command(words: str, args: argparse.Namespace) -> str:
    """A command of clusteradm, `words` without the program's name, as complete() makes it."""
    return complete(f"clusteradm {words}", args)


def again(args: argparse.Namespace) -> str:
    """The command that runs, as it was typed."""
    return shlex.join(["clusteradm", *args.typed])


def _options(name: str, rest: str, args: argparse.Namespace, own_hosts: bool) -> Iterator[str]:
    takes = COMMANDS[name]
    inventory, limit = getattr(args, "inventory", None), getattr(args, "limit", None)
    known_hosts = getattr(args, "known_hosts", None)
    if inventory and not re.search(r"(^| )(-i|--inventory)\b", rest):
        yield f"-i {shlex.quote(str(inventory))}"
    if "limit" in takes and limit and not own_hosts:
        yield f"--limit {shlex.quote(limit)}"
    if "known_hosts" in takes and known_hosts:
        yield f"--known-hosts {shlex.quote(known_hosts)}"
    if "ask_become_pass" in takes and getattr(args, "ask_become_pass", False):
        yield "-K"
