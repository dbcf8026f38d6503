"""What serving.yml promises, as far as it can be told without a host."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import servable_definitions as definitions
import yaml

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.node.serve import balancer, log, status
from clusteradm.node.serve.fronts.limits import MOST_BODY
from clusteradm.node.serve.servables import python
from clusteradm.node.spec.wire import serving
from clusteradm.playbook.read.reader import load as load_playbook
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState

VARS = shipped.PLAYBOOKS / "vars"
PLAYS: list[dict[str, Any]] = yaml.safe_load((shipped.PLAYBOOKS / "serving.yml").read_text(encoding="utf-8"))
SETTINGS: dict[str, Any] = yaml.safe_load((VARS / "serving.yml").read_text(encoding="utf-8"))
WHEELS: list[dict[str, Any]] = yaml.safe_load((VARS / "serving_wheels.yml").read_text(encoding="utf-8"))[
    "serving_wheels"
]
CONFIGURATION = (shipped.TEMPLATES / "head/etc/haproxy/haproxy.cfg.j2").read_text(encoding="utf-8")


@pytest.mark.parametrize("python", ["3.7", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_python_has_all_that_a_server_needs_once(python: str) -> None:
    listed = [row["wheel"] for row in WHEELS if python in row["python"]]
    versions = dict(wheel.split("==") for wheel in listed)
    assert len(versions) == len(listed)
    assert {"aiohttp", "grpcio", "protobuf", "orjson", "pyzmq", "yarl", "multidict", "attrs"} <= set(versions)
    # What crashes Python 3.7 (protobuf), and what it needs of later Pythons.
    if python == "3.7":
        assert versions["protobuf"].startswith("4.21.") and {"asynctest", "importlib-metadata"} <= set(versions)
    else:
        runtime = yaml.safe_load((VARS / "wheels.yml").read_text(encoding="utf-8"))["wheel_files"]
        assert f"protobuf=={versions['protobuf']}" in [row["wheel"] for row in runtime if python in row["python"]]
    for row in WHEELS:
        assert row["sha256"] and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in row["sha256"])


def test_ports_and_paths_are_those_of_the_programs() -> None:
    def value(name: str, is_head: bool) -> int:
        return int(Templates().string(str(SETTINGS[name]), {"is_head": is_head}))

    assert value("serve_http_port", False) == serving.HTTP_PORT
    assert value("serve_grpc_port", False) == serving.GRPC_PORT
    assert value("serve_http_port", True) == serving.HEAD_HTTP_PORT
    assert value("serve_grpc_port", True) == serving.HEAD_GRPC_PORT
    assert SETTINGS["serve_zmq_port"] == serving.ZMQ_PORT
    for port in (serving.HEAD_HTTP_PORT, serving.HTTP_PORT, serving.HEAD_GRPC_PORT, serving.GRPC_PORT):
        assert str(port) in CONFIGURATION
    assert (SETTINGS["balancer_folder"], SETTINGS["balancer_socket"]) == (balancer.MAPS, balancer.SOCKET)
    assert balancer.VERSIONS in CONFIGURATION and balancer.PERCENTS in CONFIGURATION
    units = {path.name.removesuffix(".j2") for path in shipped.TEMPLATES.rglob("*.service.j2")}
    assert log.SERVER_UNIT in units and status.PATH == "/clusteradm/state"


@pytest.fixture(scope="module")
def program() -> dict[str, str]:
    """The files that a board gets, by name below clusteradm/."""
    cluster = load(shipped.INVENTORY / "lab.yml")
    templates = Templates()
    playbook = load_playbook(shipped.PLAYBOOKS / "serving.yml", cluster, templates)
    planner = Planner(playbook, RunState(cluster.hosts.values()), templates, check=False, diff=False, limit=None)
    play = next(play for play in playbook.plays if play.name == "Server")
    variables = planner.variables(cluster.head, play, play.steps[0].task, 0)
    first, *lines = str(strict(variables["serve_program"])).splitlines()
    assert first == "clusteradm"
    return dict(json.loads(line) for line in lines if line.strip())


def test_the_program_is_all_of_the_node_that_a_server_needs(program: dict[str, str], tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[3] / "clusteradm"
    wanted = {
        path.relative_to(folder)
        for part in ("node/serve", "node/edgetpu", "node/spec")
        for path in (folder / part).rglob("*")
        if path.suffix in (".py", ".html")
    }
    assert {Path(name) for name in program} >= wanted
    for name, text in program.items():
        assert text.strip() == (folder / name).read_text(encoding="utf-8").strip()
        (tmp_path / "clusteradm" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clusteradm" / name).write_text(text, encoding="utf-8")
    code = "import clusteradm.node.serve.control, clusteradm.node.serve.plane"
    subprocess.run(["python3", "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)


def test_packages_with_python_functions_are_installed_by_hash(tmp_path: Path) -> None:
    wheel = definitions.wheel(tmp_path)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    other = f"/home/x/doubling-1.0-cp37-cp37m-manylinux2014_aarch64.whl#sha256={'0' * 64}"
    more = f"/home/x/tiny_words-2.1.post1-py3-none-any.whl#sha256={'1' * 64}"
    scope: dict[str, Any] = {"cluster_serve_packages": [f"{wheel}#sha256={sha256}", other, more]}
    for name in ("serve_packages", "serve_package_hashes"):
        scope[name] = Templates().string(SETTINGS[name], scope)
    lines = Templates().string(SETTINGS["serve_package_lines"], scope)
    assert lines.splitlines() == [
        f"doubling==1.0 --hash=sha256:{sha256} --hash=sha256:{'0' * 64}",
        f"tiny_words==2.1.post1 --hash=sha256:{'1' * 64}",
    ]
    (tmp_path / "packages.txt").write_text(lines.splitlines()[0])
    words = (
        "-m pip install --quiet --disable-pip-version-check --only-binary :all: --no-index --no-deps --require-hashes"
    )
    places = ["--find-links", tmp_path, "--requirement", tmp_path / "packages.txt", "--target", tmp_path / "packages"]
    subprocess.run([sys.executable, *words.split(), *map(str, places)], check=True)
    found = dict(python.entry_points([str(tmp_path / "packages")]))
    names = {"double": "Double", "wrong": "wrong", "absent": "Nothing", "number": "NUMBER"}
    assert found == {name: f"doubling:{each}" for name, each in names.items()}


@pytest.mark.parametrize(
    ("says", "refused"),
    [
        (["installed 2.6.12-1+deb12u4"], ""),
        (["candidate 2.2.9-2+deb11u6"], ""),
        (["candidate 1.8.19-1+deb10u5"], "has HAProxy 1.8.19-1+deb10u5; serving needs 2.2 or later"),
        (["installed 1.8.19-1", "candidate 2.6.12-1"], "has HAProxy 1.8.19-1;"),
        ([], "has no HAProxy in its package sources"),
    ],
)
def test_an_old_haproxy_is_refused_with_the_remedy(says: list[str], refused: str) -> None:
    play = PLAYS[0]
    (task,) = (task for task in play["tasks"] if "can do what" in task["name"])
    options = task["ansible.builtin.assert"]
    scope: dict[str, Any] = {
        **play["vars"],
        "balancer_least": SETTINGS["balancer_least"],
        "inventory_hostname": "coral-0",
    }
    scope["balancer"] = {"stdout_lines": [*says, "input 5"]}
    for name in ("says", "installed", "candidate", "version"):
        scope[name] = Templates().string(play["vars"][name], scope)
    assert Templates().expression(options["that"], scope) is not bool(refused)
    if refused:
        message = Templates().string(options["fail_msg"], scope)
        assert refused in message and "Make a machine with Debian 12 or later the head" in message


def test_what_is_secret_is_in_no_log() -> None:
    tasks = [task for play in PLAYS for task in play["tasks"]]
    secret = [task for task in tasks if "client.sha256" in str(task) or "given.pem" in str(task)]
    assert len(secret) == 2 and all(task["no_log"] for task in secret)
    assert all("mode" not in task or task["mode"] == "0600" for task in secret)


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ('0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=7,fd=6))', ["taken 80 by nginx"]),
        ('0.0.0.0:8000 0.0.0.0:* users:(("haproxy",pid=7,fd=6))', []),
        ('127.0.0.1:8000 0.0.0.0:* users:(("x",pid=7,fd=6))', []),
        ('[::]:8500 [::]:* users:(("java",pid=7,fd=6))', ["taken 8500 by java"]),
        ('0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=6))', []),
    ],
)
def test_who_else_has_a_port_is_said(tmp_path: Path, others: str, says: list[str]) -> None:
    (look,) = (task for task in PLAYS[0]["tasks"] if task.get("register") == "balancer")
    scope = {"ports": [8000, 8501, 8001, 8500, 80, 8404], "shared": str(tmp_path)}
    for name, text in (("ss", f"echo 'LISTEN 0 128 {others}'"), ("dpkg-query", "exit 1"), ("apt-cache", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = Templates().string(look["ansible.builtin.shell"], scope)
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("taken")] == says


def test_the_largest_input_is_that_of_all_manifests(tmp_path: Path) -> None:
    (look,) = (task for task in PLAYS[0]["tasks"] if task.get("register") == "balancer")

    def manifest(name: str, text: str) -> None:
        path = tmp_path / "models" / name / "1" / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)

    manifest("small", json.dumps({"inputs": [{"dtype": "uint8", "shape": [1, 28, 28, 1]}]}))
    manifest(
        "large",
        json.dumps({"inputs": [{"dtype": "float32", "shape": [1, 224, 224, 3]}, {"dtype": "int8", "shape": [4]}]}),
    )
    manifest("damaged", "{")
    manifest("odd", '{"inputs": [{"dtype": 1, "shape": "x"}]}')
    manifest(".upload-x", json.dumps({"inputs": [{"dtype": "uint8", "shape": [9_000_000]}]}))
    script = Templates().string(look["ansible.builtin.shell"], {"ports": [], "shared": str(tmp_path)})
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"input {224 * 224 * 3 * 4 + 4}"


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def test_the_certificate_is_made_anew_before_it_ends_and_not_otherwise(tmp_path: Path) -> None:
    tasks = {task["name"]: task for play in PLAYS for task in play["tasks"]}
    task = tasks["Make an authority and a certificate"]
    tmp_path, root = tmp_path / "etc/haproxy/clusteradm", tmp_path
    tmp_path.mkdir(parents=True)
    pem, authority = tmp_path / "server-1.pem", tmp_path / "ca.crt"
    scope = {
        "balancer_folder": str(tmp_path),
        "balancer_kept": f"{root}/etc/clusteradm/serve-authority",
        "serve_pem": str(pem),
        "serve_names": "subjectAltName=DNS:coral-0,IP:192.0.2.1",
        "inventory_hostname": "coral-0",
    }

    def run() -> bool:
        """Whether the task changes something, and so reloads HAProxy."""
        script = Templates().string(task["ansible.builtin.shell"], scope)
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "ca.key", "server-1.pem"]
        assert [path.stat().st_mode & 0o777 for path in (authority, tmp_path / "ca.key", pem)] == [0o644, 0o600, 0o600]
        openssl("verify", "-CAfile", authority, pem)
        return bool(Templates().expression(task["changed_when"], {"certificate": {"stdout": done.stdout}}))

    def lasts(days: int) -> bool:
        command = ["openssl", "x509", "-in", pem, "-noout", "-checkend", str(days * 86400)]
        return subprocess.run(command, capture_output=True).returncode == 0

    assert run() and lasts(824) and not lasts(826)
    first, made_by = pem.read_bytes(), authority.read_bytes()
    assert not run() and pem.read_bytes() == first
    for days, renewed in ((31, False), (29, True)):
        openssl("req", "-new", "-key", pem, "-subj", "/CN=coral-0", "-out", tmp_path / "request")
        of_the_authority = ("-CA", authority, "-CAkey", tmp_path / "ca.key", "-set_serial", 7, "-days", days)
        openssl("x509", "-req", "-in", tmp_path / "request", *of_the_authority, "-out", tmp_path / "short")
        pem.write_bytes((tmp_path / "short").read_bytes() + made_by + (tmp_path / "ca.key").read_bytes())
        for name in ("request", "short"):
            (tmp_path / name).unlink()
        assert run() is renewed
    assert lasts(824)
    pem.write_text("half")
    assert run() and lasts(824) and authority.read_bytes() == made_by
    assert task["notify"] == "Reload HAProxy"
    # After serve down clients still have the authority's certificate, and nobody else its key.
    (play, _) = yaml.safe_load((shipped.PLAYBOOKS / "serving_down.yml").read_text(encoding="utf-8"))
    (down,) = play["tasks"]
    script = Templates().string(down["ansible.builtin.shell"], {**scope, "balancer_unit": f"{root}/etc/unit"})
    script = re.sub(" /etc/", f" {root}/etc/", script)
    (root / "bin").mkdir()
    (root / "bin/systemctl").write_text("#!/bin/sh\n")
    (root / "bin/systemctl").chmod(0o755)
    path = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-ec", script], env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "stopped\n" and not tmp_path.exists()
    assert (root / "etc/clusteradm/serve-authority").stat().st_mode & 0o777 == 0o700
    assert subprocess.run(["sh", "-ec", script], env=path, capture_output=True, check=True).stdout == b""
    tmp_path.mkdir()
    assert run() and lasts(824) and authority.read_bytes() == made_by


def test_a_certificate_is_validated_before_it_takes_the_place_of_another(tmp_path: Path) -> None:
    (task,) = (task for play in PLAYS for task in play["tasks"] if task["name"] == "Copy the certificate and its key")
    pem = tmp_path / "given.pem"
    words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2)
    for name in ("one", "other"):
        openssl(*words, "-subj", "/CN=x", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt")
    crt, key, other = ((tmp_path / name).read_text() for name in ("one.crt", "one.key", "other.key"))
    for text, right in (
        (crt + key, True),
        (key + crt, True),
        (crt, False),
        (key, False),
        (crt + other, False),
        ("", False),
    ):
        pem.write_text(text)
        command = shlex.split(task["ansible.builtin.copy"]["validate"].replace("%s", str(pem)))
        assert (subprocess.run(command, capture_output=True).returncode == 0) is right


def test_the_control_starts_after_the_folder_that_it_may_write() -> None:
    """A unit's ReadWritePaths are looked at when it starts."""
    names = [task["name"] for play in PLAYS for task in play["tasks"]]
    assert names.index("Create the folders of its configuration") < names.index("Start the control, now and at boot")
    unit = (shipped.TEMPLATES / "head/etc/systemd/system/clusteradm-serve-control.service.j2").read_text("utf-8")
    assert "\nReadWritePaths=/etc/haproxy\n" in unit and "AF_UNIX" in unit


def test_a_damaged_manifest_does_not_end_serve_up(tmp_path: Path) -> None:
    """The look at the largest input takes what it can read, and waits for nothing."""
    shell = PLAYS[0]["tasks"][0]["ansible.builtin.shell"]
    program = re.search(r"<<'END'\n(.*?)\nEND", shell, re.DOTALL)
    assert program is not None

    def largest() -> str:
        command = [sys.executable, "-", str(tmp_path)]
        done = subprocess.run(command, input=program[1], capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def model(number: int, text: str) -> None:
        folder = tmp_path / "m" / str(number)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)

    model(1, json.dumps({"inputs": [{"dtype": "float32", "shape": [1, 10, 10]}, {"dtype": "uint8", "shape": [5]}]}))
    for number, text in enumerate(
        (
            "[" * 60000,
            "[]",
            "",
            '{"inputs": [{"dtype": "uint8", "shape": [1e999]}]}',
            '{"inputs": [{"dtype": "uint8", "shape": [NaN]}]}',
            '{"inputs": [{"dtype": "uint8", "shape": [[]]}]}',
            '{"inputs": [7]}',
            '{"inputs": ' + "9" * 5000 + "}",
            "\udcff",
        ),
        2,
    ):
        model(number, text.encode("utf-8", "surrogateescape").decode("latin-1"))
    (tmp_path / "m" / "20").mkdir()
    os.mkfifo(tmp_path / "m" / "20" / "manifest.json")
    assert largest() == "input 405\n"
    # No request can have more than that.
    for number, shape, found in ((30, [10**9] * 9, 405), (31, [MOST_BODY + 1], 405), (32, [MOST_BODY], MOST_BODY)):
        model(number, json.dumps({"inputs": [{"dtype": "uint8", "shape": shape}]}))
        assert largest() == f"input {found}\n"


class Board(http.server.BaseHTTPRequestHandler):
    """/clusteradm/balance of a board's server, by what is in a file; no answer while there is none."""

    says: Path

    def do_GET(self) -> None:
        assert self.path == "/clusteradm/balance"
        if self.says.exists():
            self.send_response(int(self.says.read_text()))
            self.end_headers()

    def log_message(self, *about: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("before", "after", "status", "text"),
    [
        ("200", "rm says; (sleep 1; echo 404 >says; sleep 1; echo 200 >says; date >ready) >log 2>&1 &", 0, ""),
        ("404", "(sleep 1; date >ready) >log 2>&1 &", 0, ""),
        ("200", "echo 404 >says", 1, "b1 takes no requests since"),
        ("200", "rm says", 1, "b1 takes no connections at 127.0.0.1"),
        ("200", "exit 3", 3, ""),
    ],
)
def test_the_next_server_is_started_anew_when_this_one_takes_requests(
    before: str, after: str, status: int, text: str, tmp_path: Path
) -> None:
    (play,) = (play for play in PLAYS if play["name"] == "New servers")
    assert play["serial"] == 1
    (tmp_path / "says").write_text(before)
    for name, body in {"systemctl": after, "journalctl": "echo last word"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    handler = type("One", (Board,), {"says": tmp_path / "says"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scope = {"cluster_ip": "127.0.0.1", "serve_http_port": server.server_port, "inventory_hostname": "b1"}
        shell = Templates().string(play["tasks"][0]["ansible.builtin.shell"], scope).replace("seq 240", "seq 8")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh", "-c", shell], env=environment, capture_output=True, text=True, check=False)
        assert (tmp_path / "ready").exists() == (before == "200" and status == 0), done.stderr
        server.shutdown()
    assert done.returncode == status and text in done.stderr, done.stderr
    assert status != 1 or done.stderr.endswith("last word\n")
