"""Check of the facts that a playbook uses, before anything runs: those in node/spec/facts.py, and no others.

A fact that Ansible knows and clusteradm does not gather would be undefined: a task would fail half-way, and a condition
with `is defined` would choose the other branch without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from clusteradm.errors import Problem
from clusteradm.inventory.variables import CONNECTION
from clusteradm.inventory.yaml_text import read_text
from clusteradm.nearest import nearest
from clusteradm.node.spec.facts import DATE_TIME, FACTS
from clusteradm.playbook.model import Play, Playbook, Task
from clusteradm.playbook.render.jinja import is_template
from clusteradm.playbook.render.variables import find

_PREFIX = "ansible_"
# Variables of a run that are no facts.
_MAGIC = {"ansible_facts", "ansible_check_mode", "ansible_diff_mode", "ansible_limit", "ansible_play_name"}
_MAGIC |= {"ansible_play_hosts", "ansible_play_batch", "ansible_play_hosts_all", "ansible_loop_var"}
_MAGIC |= {"ansible_inventory_sources"}
# Ansible's variables about connections, which an inventory may have or not.
_OF_CONNECTIONS = re.compile(
    r"ansible_(ssh|become|sudo|su|shell|paramiko|connection|password|pipelining|timeout|network)(_|$)"
)
_METHODS = {"get", "items", "keys", "values"}
# Facts of Ansible's setup module that are not gathered here. (An interface has a fact of its own name, too.)
_NOT_GATHERED = re.compile(
    r"(all_ipv[46]_addresses|apparmor|bios_\w+|board_\w+|chassis_\w+|cmdline|default_ipv[46]|device_links|devices|"
    r"distribution_file_\w+|dns|env|fibre_channel_wwn|fips|fqdn|gather_subset|hostnqn|interfaces|is_chroot|iscsi_iqn|loadavg|"
    r"local|locally_reachable_ips|lsb|lvm|memory_mb|module_setup|mounts|proc_cmdline|processor|processor_\w+|product_\w+|"
    r"python|selinux\w*|ssh_host_key_\w+|system_capabilities\w*|system_vendor|systemd|userspace_\w+|virtualization_\w+|"
    r"(eth|en[ops]|wlan|wl|br|lo)[\w]*)"
)
_ENVIRONMENT = jinja2.Environment(trim_blocks=True)  # noqa: S701 - it only parses


def check(playbook: Playbook) -> Iterator[Problem]:
    """A problem for each use of a fact that there is not."""
    known = _defined(playbook)
    for host in playbook.cluster.hosts.values():
        for name, value in host.vars.items():
            for _, what in _in_value(value, known):
                yield Problem(host.origins[name].file, host.origins[name].line, what)
    for play in playbook.plays:
        for value in (play.vars, play.file_vars):
            for _, what in _in_value(value, known):
                yield Problem(str(play.place.file), play.place.line, what)
        for task in (*play.pre_tasks, *play.tasks, *play.handlers):
            yield from _of_task(task, known)


def _defined(playbook: Playbook) -> set[str]:
    """Names of variables that begin with ansible_ and are set somewhere, or may be."""
    names = {*_MAGIC, *CONNECTION}
    for host in playbook.cluster.hosts.values():
        names.update(host.vars)
    for play in playbook.plays:
        names.update(play.vars, play.file_vars)
        for task in _tasks(play):
            names.update(task.vars, task.defines)
    return names


def _tasks(play: Play) -> tuple[Task, ...]:
    return (*play.pre_tasks, *play.tasks, *play.handlers)


def _of_task(task: Task, known: set[str]) -> Iterator[Problem]:
    place = (str(task.place.file), task.place.line)
    found: dict[str, None] = {}
    for conditions in (task.when, task.changed_when or (), task.failed_when or (), task.until):
        found.update((what, None) for condition in conditions for _, what in _in_expression(condition, known))
    args = dict(task.args)
    for option in ("that", "var") if task.module in ("assert", "debug") else ():
        value = args.pop(option, ())
        expressions = value if isinstance(value, list) else [value]
        found.update((what, None) for each in expressions for _, what in _in_expression(each, known))
    for value in (args, task.vars, task.loop, task.label, task.name, task.delegate_to, task.become_user):
        found.update((what, None) for _, what in _in_value(value, known))
    yield from (Problem(*place, what) for what in found)
    src = task.args.get("src")
    if task.module == "template" and isinstance(src, str) and not is_template(src):
        try:
            path = find(src, task, "templates")
            text = read_text(path)
        except (OSError, UnicodeDecodeError):
            return  # reported by the reader
        yield from (Problem(str(path), line, what) for line, what in _in_text(text, known))


def _in_value(value: Any, known: set[str]) -> Iterator[tuple[int, str]]:
    if isinstance(value, Mapping):
        for element in value.values():
            yield from _in_value(element, known)
    elif isinstance(value, list | tuple):
        for element in value:
            yield from _in_value(element, known)
    elif isinstance(value, str) and is_template(value):
        yield from _in_text(value, known)


def _in_expression(condition: Any, known: set[str]) -> Iterator[tuple[int, str]]:
    if isinstance(condition, str):
        yield from _in_text(condition if condition.strip().startswith("{{") else "{{ " + condition + " }}", known)


def _in_text(text: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, message) of each wrong use in a template."""
    if _PREFIX not in text:
        return
    try:
        tree = _ENVIRONMENT.parse(text)
    except (jinja2.TemplateSyntaxError, RecursionError, ValueError):
        return  # reported by the reader
    guarded = {id(node) for node in _guarded(tree)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
        what = None
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            what = _element(node)
        elif isinstance(node, nodes.Name) and node.name.startswith(_PREFIX) and node.name not in known:
            what = _bare(node.name, guarded=id(node) in guarded)
        if what:
            yield node.lineno, what


def _guarded(tree: nodes.Template) -> Iterator[nodes.Node]:
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        if node.name in ("default", "d", "defined", "undefined") and node.node is not None:
            yield node.node


def _bare(name: str, *, guarded: bool) -> str | None:
    """The message about a variable ansible_NAME that nothing in the playbook or inventory sets."""
    fact = name.removeprefix(_PREFIX)
    if fact in FACTS or _OF_CONNECTIONS.match(name):
        return None
    # One that is no fact of Ansible either may be left out on purpose, with a default.
    return None if guarded and not _NOT_GATHERED.fullmatch(fact) else _no_fact(fact, name)


def _element(node: nodes.Getattr | nodes.Getitem) -> str | None:
    """The message about an element of ansible_facts, or of its date_time."""
    key, of = _key(node), _name(node.node)
    if key is None or (isinstance(node, nodes.Getattr) and key in _METHODS):
        return None
    if of == "ansible_facts":
        return None if key in FACTS else _no_fact(key, f"ansible_facts.{key}")
    if of in ("date_time", "ansible_date_time") and _is_fact(node.node):
        return None if key in DATE_TIME else f"the fact date_time has no {key}{nearest(key, DATE_TIME)}"
    return None


def _is_fact(node: nodes.Node) -> bool:
    """Whether it is ansible_date_time, or date_time of ansible_facts."""
    if isinstance(node, nodes.Name):
        return node.name == "ansible_date_time"
    return isinstance(node, nodes.Getattr | nodes.Getitem) and _name(node.node) == "ansible_facts"


def _key(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return str(node.attr)
    return node.arg.value if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) else None


def _name(node: nodes.Node) -> str | None:
    """The name of a variable, or of an element: `ansible_facts` of `hostvars['w1'].ansible_facts`."""
    if isinstance(node, nodes.Name):
        return str(node.name)
    return _key(node) if isinstance(node, nodes.Getattr | nodes.Getitem) else None


def _no_fact(fact: str, name: str) -> str:
    near = nearest(fact, FACTS, 0.7)
    return f"{name} is no fact that clusteradm gathers{near or '; docs/playbooks.md lists them'}"
