"""What the shipped playbooks promise, as far as it can be told without a node."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.inventory.kinds import LEAST_GUARD
from clusteradm.inventory.variables import VARIABLES
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
        load_playbook(shipped.PLAYBOOKS / name, load(inventory))
        for name in ("bootstrap.yml", "passwords.yml", "serving.yml", "serving_down.yml", "slurm.yml")
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
        value = super().__getitem__(name)
        return Templates().string(value, self) if isinstance(value, str) else value


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
            assert row["runtime"]


def test_a_package_that_is_fetched_has_one_file_for_each_architecture_and_build() -> None:
    for row in RUNTIMES:
        for package in row["packages"]:
            files = {
                package["url"].replace("BUILD", build).replace("ARCH", arch).rpartition("/")[2]
                for build in package.get("builds", {"": ""}).values()
                for arch in package["arch"]
            }
            assert set(package) <= {"name", "version", "url", "arch", "builds", "kernel", "sha256"}
            assert all(file.startswith(f"{package['name']}_{package['version']}") for file in files)
            assert set(package.get("sha256", {})) <= files
            assert package["url"].startswith("https://") and ("BUILD" in package["url"]) == ("builds" in package)
            assert ("ARCH" in package["url"]) == (package["arch"] != ["all"])
            assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in package.get("sha256", {}).values())
            assert all(re.fullmatch(r"(debian|ubuntu) \d\d(\.\d\d)?", release) for release in package.get("builds", {}))


def test_what_is_about_the_compute_nodes_is_never_about_the_head() -> None:
    of_compute = {
        play["name"]: play["hosts"]
        for _, play in PLAYS
        if "compute" in play["hosts"] and play["hosts"] != "head:compute"
    }
    assert of_compute == dict.fromkeys(("Mount", "Packages through the head"), "compute:!head")


def test_nobody_is_a_member_twice_where_ansible_alone_reads_the_inventory() -> None:
    values = variables("cluster.yml")
    for computes, workers in ((True, ["h", "c"]), (False, ["c"])):
        scope = _Rendered(
            {**values, "groups": {"head": ["h"], "compute": ["h", "c"]}, "cluster_head_computes": computes}
        )
        assert (scope["members"], scope["workers"]) == (["h", "c"], workers)


WHEELS: list[dict[str, Any]] = variables("wheels.yml")["wheel_files"]


def test_every_wheel_of_a_runtime_is_listed_with_its_hashes() -> None:
    for row in RUNTIMES:
        for python in row["python"] if row["install"] == "pip" else ():
            listed = [file["wheel"] for file in WHEELS if python in file["python"]]
            names = [wheel.split("==")[0] for wheel in listed]
            assert set(row["requirements"]) <= set(listed)
            # All that it needs, and each once: pip takes nothing that is not listed.
            assert len(names) == len(set(names))
            assert {"numpy", "protobuf", "flatbuffers", "tqdm", "typing-extensions", "backports.strenum"} <= set(names)
    for file in WHEELS:
        assert file["sha256"] and all(re.fullmatch("[0-9a-f]{64}", sum_) for sum_ in file["sha256"]), file["wheel"]


def test_wheels_are_installed_by_their_hashes_and_plain_http_alone_is_trusted() -> None:
    text = (shipped.PLAYBOOKS / "runtime.yml").read_text(encoding="utf-8")
    (play,) = yaml.safe_load(text)
    (others,) = yaml.safe_load((shipped.PLAYBOOKS / "software.yml").read_text(encoding="utf-8"))
    fetching = yaml.safe_load((shipped.PLAYBOOKS / "tasks/wheels.yml").read_text(encoding="utf-8"))
    for wheels, trusted in (("http://192.0.2.1/w/", "--trusted-host 192.0.2.1"), ("https://example.org/w/", "")):
        assert Templates().string(play["vars"]["trusted"], {"wheels_from": wheels}) == trusted
        assert Templates().string(others["vars"]["trusted"], {"wheels": wheels}) == trusted
    for words, tasks in (("pip install", play["tasks"]), ("pip download", fetching)):
        (task,) = (task for task in tasks if words in str(task))
        assert "--require-hashes" in str(task)


def test_the_head_fetches_for_the_others_what_they_install() -> None:
    (play,) = yaml.safe_load((shipped.PLAYBOOKS / "software.yml").read_text(encoding="utf-8"))
    scope = _Rendered({**play["vars"], "item": "3.11 x86_64", "wheel_files": WHEELS})
    listed = [line.split() for line in scope["listed"].splitlines()]
    assert [line[0] for line in listed] == [file["wheel"] for file in WHEELS if "3.11" in file["python"]]
    assert all(word.startswith("--hash=sha256:") for line in listed for word in line[1:])
    # Only the head may say what is fetched: of the others' lines, those of one form are taken.
    looks = {
        "w1": ["runtime", "python 3.11 x86_64"],
        "w2": ["python 3.9 aarch64"],
        "w3": ["python 3.11 x86_64"],
        "w4": ["python 3.11; reboot x86_64"],
        "w5": ["python 3.11 x86_64 $(reboot)"],
    }
    hosts = {name: {"look": {"stdout_lines": lines}} for name, lines in looks.items()}
    scope = _Rendered({**play["vars"], "groups": {"compute": ["h", *hosts, "w6"]}, "head": "h"})
    scope["hostvars"] = {**hosts, "w6": {}}
    assert scope["pythons"] == ["3.11 x86_64", "3.9 aarch64"]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("ssh-ed25519 {key}", True),
        ("ssh-ed25519 {key} root@coral-1\n", True),
        ("ssh-ed25519 {key} root@coral-1\nhead ssh-ed25519 {key}\n", False),
        ("ssh-ed25519 {key}\r\nhead", False),
        ("@cert-authority * ssh-ed25519 {key}", False),
        ('command="id" ssh-ed25519 {key}', False),
        (" ssh-ed25519 {key}", False),
        ("ssh-ed25519  {key}", False),
        ("ssh-rsa {key}", False),
        ("ssh-ed25519 {key}AAAA", False),
        ("", False),
    ],
)
def test_one_host_key_and_nothing_else(text: str, fits: bool) -> None:
    (play,) = yaml.safe_load((shipped.PLAYBOOKS / "base.yml").read_text(encoding="utf-8"))
    key = "AAAAC3NzaC1lZDI1NTE5AAAAI" + "q" * 43
    scope = {"text": text.format(key=key), "one_key": play["vars"]["one_key"]}
    assert Templates().expression("text is match(one_key)", scope) is fits


def _packet(kind: int, body: bytes, *, old: bool = False) -> bytes:
    if old:
        return bytes((0x80 | kind << 2 | 1,)) + len(body).to_bytes(2, "big") + body
    size = bytes((len(body),)) if len(body) < 192 else bytes(((len(body) - 192 >> 8) + 192, len(body) - 192 & 255))
    return bytes((0xC0 | kind,)) + size + body


ONE, TWO = b"\x04one" + b"k" * 60, b"\x04two" + b"k" * 300
KEYS = _packet(6, ONE) + _packet(13, b"one") + _packet(6, TWO, old=True) + _packet(13, b"two") + _packet(2, b"s" * 200)
PRINTS = [
    hashlib.sha1(b"\x99" + len(key).to_bytes(2, "big") + key, usedforsecurity=False).hexdigest().upper()
    for key in (ONE, TWO)
]


def _armored(data: bytes) -> bytes:
    head, end = (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\nVersion: x\r\n\r\n",
        b"=abcd\r\n-----END PGP PUBLIC KEY BLOCK-----\r\n",
    )
    return head + base64.encodebytes(data).replace(b"\n", b"\r\n") + end


@pytest.mark.parametrize("fetched", [KEYS, _armored(KEYS)], ids=["binary", "text"])
@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (PRINTS[:1], KEYS[: len(_packet(6, ONE) + _packet(13, b"one"))]),
        (PRINTS[1:], KEYS[len(_packet(6, ONE) + _packet(13, b"one")) :]),
        ([], KEYS),
        (["0" * 40], None),
    ],
    ids=["the first", "the second", "any", "another"],
)
def test_of_the_fetched_keys_those_that_are_expected(
    tmp_path: Path, fetched: bytes, wanted: list[str], taken: bytes | None
) -> None:
    (tmp_path / "fetched").write_bytes(fetched)
    argv = [sys.executable, "-", str(tmp_path / "fetched"), str(tmp_path / "keyring"), *wanted]
    done = subprocess.run(
        argv, input=variables("tpu.yml")["tpu_key_reader"], capture_output=True, text=True, check=False
    )
    if taken is None:
        assert done.returncode == 1 and ", ".join(PRINTS) in done.stderr
        assert not (tmp_path / "keyring").exists()
    else:
        assert (tmp_path / "keyring").read_bytes() == taken, done.stderr


@pytest.mark.parametrize("fetched", [b"", b"<html>not found</html>", KEYS[:20], b"\xff" * 40])
def test_what_is_no_key_is_no_keyring(tmp_path: Path, fetched: bytes) -> None:
    (tmp_path / "fetched").write_bytes(fetched)
    argv = [sys.executable, "-", str(tmp_path / "fetched"), str(tmp_path / "keyring")]
    done = subprocess.run(
        argv, input=variables("tpu.yml")["tpu_key_reader"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert not (tmp_path / "keyring").exists()


def test_the_vendors_keys_are_pinned_and_anothers_by_the_inventory() -> None:
    values = variables("tpu.yml")
    own = {"cluster_tpu_key": "http://192.0.2.1/key.asc"}
    pinned = _Rendered(values)["tpu_fingerprints"]
    assert pinned and all(re.fullmatch("[0-9A-F]{40}", one) for one in pinned)
    assert _Rendered({**values, **own, "cluster_tpu_key_fingerprint": "A" * 40})["tpu_fingerprints"] == ["A" * 40]
    assert _Rendered({**values, **own})["tpu_fingerprints"] == []


def test_wheels_that_could_not_be_fetched_are_the_matter_of_who_needs_them() -> None:
    (fetch,) = yaml.safe_load((shipped.PLAYBOOKS / "tasks/wheels.yml").read_text(encoding="utf-8"))
    assert fetch["failed_when"] is False
    (play,) = yaml.safe_load((shipped.PLAYBOOKS / "runtime.yml").read_text(encoding="utf-8"))
    failed = {"item": "3.9 aarch64", "rc": 1, "stderr": "head cannot fetch them."}
    other = {"item": "3.11 x86_64", "rc": 1, "stderr": "another matter"}
    scope = _Rendered({**play["vars"], "through_head": True, "head": "h", "python": "3.9"})
    scope["hostvars"] = {"h": {"wheels_for_others": {"results": [failed, other]}}}
    assert "could not: head cannot fetch them. Then" in scope["no_wheels"] and "another" not in scope["no_wheels"]
    scope["hostvars"] = {"h": {}}
    assert "run bootstrap again without --limit" in scope["no_wheels"]


@pytest.mark.parametrize(
    ("source", "servers"),
    [
        ("deb https://example.org/apt stable main", ["https://example.org"]),
        ("deb [arch=amd64] http://ann:secret@192.0.2.1:8080/apt stable main", ["http://192.0.2.1:8080"]),
        ("deb file:/srv/repo ./", []),
    ],
)
def test_the_proxy_is_told_of_servers_without_their_passwords(tmp_path: Path, source: str, servers: list[str]) -> None:
    play = yaml.safe_load((shipped.PLAYBOOKS / "relay.yml").read_text(encoding="utf-8"))[0]
    scope = _Rendered({**play["vars"], "tpu_source": source, "relayed": {"stdout_lines": ["installed"]}})
    assert scope["servers"] == servers
    # And of those that the head itself uses.
    (look,) = (task for task in play["tasks"] if task.get("register") == "relayed")
    (tmp_path / "sources.list").write_text(source + "\n")
    shell = look["ansible.builtin.shell"].replace("/etc/apt/sources.list.d/*", "")
    shell = shell.replace("/etc/apt/sources.list", str(tmp_path / "sources.list")).replace(
        "{{ relay_packages[0] }}", "-"
    )
    said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.split()
    assert said == servers


def steps_of_bootstrap() -> list[tuple[str, dict[str, Any]]]:
    """(file, task) in the order of bootstrap; imported task files stay one task."""
    files = [
        each["import_playbook"]
        for each in yaml.safe_load((shipped.PLAYBOOKS / "bootstrap.yml").read_text(encoding="utf-8"))
    ]
    return [
        (file, task)
        for file in files
        for play in yaml.safe_load((shipped.PLAYBOOKS / file).read_text(encoding="utf-8"))
        for task in play.get("tasks", ())
    ]


def test_the_generation_of_mpi_is_looked_at_when_every_host_has_its_packages() -> None:
    steps = steps_of_bootstrap()
    installed = [n for n, (_, task) in enumerate(steps) if "tasks/packages.yml" in str(task)]
    (looked,) = (n for n, (_, task) in enumerate(steps) if task.get("register") == "prterun")
    assert len(installed) == 2 and looked > max(installed)


def test_a_host_that_has_its_own_way_out_again_asks_the_head_for_nothing() -> None:
    steps = steps_of_bootstrap()
    first = min(n for n, (_, task) in enumerate(steps) if "tasks/packages.yml" in str(task))
    (removed,) = (n for n, (_, task) in enumerate(steps) if "30clusteradm" in str(task) and "absent" in str(task))
    assert removed < first
