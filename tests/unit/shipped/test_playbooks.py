"""What the shipped playbooks promise, as far as it can be told without a node."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.inventory.variables import LEAST_GUARD, VARIABLES
from clusteradm.playbook.read.reader import load as load_playbook
from clusteradm.playbook.render.jinja import Templates

INVENTORIES = sorted(shipped.INVENTORY.glob("*.yml"))
FILES = sorted(shipped.PLAYBOOKS.rglob("*.yml"))
PLAYS = [
    (path, play)
    for path in sorted(shipped.PLAYBOOKS.glob("*.yml"))
    for play in yaml.safe_load(path.read_text(encoding="utf-8"))
    if "hosts" in play
]


def variables(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((shipped.PLAYBOOKS / "vars" / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
def test_the_engine_takes_them(inventory: Path) -> None:
    # What bootstrap is made of, and what one runs by itself.
    playbooks = [
        load_playbook(shipped.PLAYBOOKS / name, load(inventory)) for name in ("bootstrap.yml", "passwords.yml")
    ]
    read_of = {play.place.file.resolve() for playbook in playbooks for play in playbook.plays}
    assert read_of == {path.resolve() for path, _ in PLAYS}


def test_defaults_are_those_of_the_table() -> None:
    """ansible-playbook knows only the defaults that are written here."""
    written = _Rendered({**variables("cluster.yml"), **variables("tpu.yml")})
    of_the_vendor = ("cluster_tpu_source", "cluster_tpu_key")
    for name, value in written.items():
        match = re.fullmatch(r"\{\{ (cluster_\w+) \| default\(.*\) \}\}", str(value))
        if match and match[1] in of_the_vendor:
            # The table does not repeat the vendor's address.
            assert VARIABLES[match[1]].default is None
            assert f".{written['tpu_vendor_domain']}/apt" in written[name]
        elif match:
            assert written[name] == VARIABLES[match[1]].default, name


def test_the_shortest_guard_leaves_time_to_connect() -> None:
    tasks = yaml.safe_load((shipped.PLAYBOOKS / "tasks/confirm.yml").read_text(encoding="utf-8"))
    (delay,) = (wait["delay"] for task in tasks if (wait := task.get("ansible.builtin.wait_for_connection")))
    attempt = 5  # wait_for_connection's connect_timeout, by default
    assert delay + attempt < LEAST_GUARD <= VARIABLES["cluster_network_guard"].default


class _Rendered(dict[str, Any]):
    """Variables that are templates of each other."""

    def __getitem__(self, name: str) -> Any:
        return Templates().string(str(super().__getitem__(name)), self)


@pytest.mark.parametrize("path", [*FILES, *shipped.TEMPLATES.rglob("*.j2")], ids=lambda path: path.name)
def test_cluster_variables_are_in_the_table(path: Path) -> None:
    used = set(re.findall(r"\bcluster_[a-z_]+\b", path.read_text(encoding="utf-8")))
    assert used <= set(VARIABLES)


@pytest.mark.parametrize(("path", "play"), PLAYS, ids=lambda value: value["name"] if isinstance(value, dict) else "")
def test_what_another_host_registers_comes_from_an_earlier_play(path: Path, play: dict[str, Any]) -> None:
    """With `strategy: free` a host does not wait for the others within a play: only the end of a play is a barrier."""
    assert play["strategy"] == "free"
    registered = {task["register"] for task in play["tasks"] if "register" in task}
    of_others = set(re.findall(r"hostvars\[[^\]]+\]\.(\w+)", yaml.safe_dump(play, width=1_000_000)))
    assert registered & of_others == set()


@pytest.mark.parametrize(("path", "play"), PLAYS, ids=lambda value: value["name"] if isinstance(value, dict) else "")
def test_looking_changes_nothing_and_is_done_in_check_mode_too(path: Path, play: dict[str, Any]) -> None:
    for task in play["tasks"]:
        if task["name"].startswith("Look "):
            assert task["changed_when"] is False and task["check_mode"] is False and "register" in task, task["name"]


RUNTIMES: list[dict[str, Any]] = variables("runtimes.yml")["runtimes"]


def test_each_python_has_at_most_one_runtime_of_a_kind() -> None:
    for kind in ("apt", "pip"):
        of_kind = [set(row["python"]) for row in RUNTIMES if row["install"] == kind]
        assert all(a.isdisjoint(b) for a, b in itertools.combinations(of_kind, 2))
    # From Mendel's Python to the newest that there are wheels for.
    pythons = {version for row in RUNTIMES for version in row["python"]}
    assert {f"3.{minor}" for minor in range(6, 15)} <= pythons


def test_a_wheel_that_is_installed_is_recognised_by_its_metadata() -> None:
    for row in RUNTIMES:
        if row["install"] == "pip":
            name, version = row["requirements"][-1].split("==")
            assert row["installed"] == f"{name.replace('-', '_')}-{version}.dist-info"
        else:
            assert row["packages"]


@pytest.mark.parametrize(
    ("libedgetpu", "runtimes"),
    [
        # Google's last two, built against TensorFlow 2.5: newer runtimes crash with them (google-coral/edgetpu#812).
        ("15.0", ["pycoral 2.0.0"]),
        ("16.0", ["pycoral 2.0.0"]),
        # Rebuilt against a newer TensorFlow, as their version says.
        ("16.0TF2.17.1-1.bookworm", ["ai-edge-litert 2.1.0", "ai-edge-litert 2.3.0"]),
        ("16.0TF2.19.1-1", ["ai-edge-litert 2.1.0", "ai-edge-litert 2.3.0"]),
    ],
)
def test_which_libraries_a_runtime_can_load(libedgetpu: str, runtimes: list[str]) -> None:
    assert [row["name"] for row in RUNTIMES if re.search(row["libedgetpu"], libedgetpu)] == runtimes
