"""Serving on a virtual cluster, asked by curl, ss, systemctl, HAProxy's own socket and unmodified clients. One lab."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servable_definitions as definitions
import yaml
from agreement import run_ansible
from commands import SHARED, Cluster
from jobs import so_far

from clusteradm import shipped
from clusteradm.lab import Lab
from clusteradm.lab.digits import data

pytestmark = [pytest.mark.lab, pytest.mark.alone]

LABELS = Path(data.__file__).with_name("labels.txt")
HEAD = "10.77.0.1"  # of any lab, on the admin's side
WAIT = 90.0
LOAD = Path(__file__).with_name("serve_load.py")


class Served:
    """A cluster that serves, and its clients on the admin's side of the network."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder

    def inside(self, *argv: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """A command of this machine in the lab's network."""
        words = ["nsenter", f"--net={self.cluster.lab.places.netns}", *map(str, argv)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **more)

    def curl(self, path: str, *options: object, port: int = 8000) -> tuple[int, str]:
        done = self.inside("curl", "-s", "-m", 30, "-w", "\n%{http_code}", *options, f"http://{HEAD}:{port}{path}")
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def deploy(self, model: Path, name: str, *options: object) -> None:
        compiled = self.folder / f"{model.stem}-{time.monotonic_ns()}_edgetpu.tflite"
        self.cluster.run("lab", "compile-model", model, "--output", compiled)
        self.cluster.run("deploy-model", compiled, "--name", name, *options)

    def index(self) -> list[set[tuple[str, str, str]]]:
        """The repository's index by Triton's clients, over HTTP and gRPC, each time from another board perhaps."""
        program = (
            "import json, sys, tritonclient.grpc as rpc, tritonclient.http as rest;"
            "one, two = (each.InferenceServerClient(at) for each, at in zip((rest, rpc), sys.argv[1:]));"
            "ask = [one.get_model_repository_index, lambda: two.get_model_repository_index(as_json=True)['models']];"
            "print(json.dumps([each() for _ in range(4) for each in ask]))"
        )
        done = self.inside(sys.executable, "-c", program, f"{HEAD}:8000", f"{HEAD}:8001")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        return [{(each["name"], each.get("version", ""), each["state"]) for each in index} for index in said]

    def status(self, expect: int | None = None) -> dict[str, Any]:
        process = self.cluster.start("serve", "status", "--json")
        out, err = process.communicate(timeout=180)
        assert expect is None or process.returncode == expect, f"{out}\n{err}"
        document: dict[str, Any] = json.loads(out)
        return document

    def placed(self) -> set[str]:
        """The hosts that have the model means by the desired state; none for all."""
        found = self.cluster.on("head", "cat", f"{SHARED}/serving/desired.json")
        placement = {each["name"]: each["tpus"] for each in json.loads(found)["placement"]}
        return {copy.partition(":")[0] for copy in placement.get("means", [])}

    def of_board(self, host: str, path: str) -> str:
        """What a board itself answers, right or wrong."""
        program = (
            "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], 8000, timeout=30);"
            "c.request('GET', sys.argv[2]); print(c.getresponse().read().decode())"
        )
        return self.cluster.on("head", "python3", "-c", program, host, path)

    def forget(self, host: str) -> None:
        """Make a board one that never served, and the cluster one that never had it."""
        inventory = yaml.safe_load(self.cluster.lab.inventory.read_text())
        del inventory["all"]["children"]["compute"]["hosts"][host]
        path = self.cluster.lab.inventory.with_name("few.yml")
        path.write_text(yaml.safe_dump(inventory))
        few = Cluster(self.cluster.lab)
        few.env["CLUSTERADM_INVENTORY"] = str(path)
        few.run("serve", "up", "--json")
        path.unlink()
        assert host not in self.haproxy()
        remove = "systemctl disable --now clusteradm-serve; rm -rf /opt/clusteradm/serve /var/lib/clusteradm-serve/*"
        self.cluster.on(
            host, "sh", "-c", f"{remove} /etc/systemd/system/clusteradm-serve.service /etc/clusteradm/serve*"
        )

    def haproxy(self) -> dict[str, str]:
        """The boards' states by HAProxy's own socket."""
        program = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/clusteradm.sock');"
            "s.sendall(b'show stat\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
        )
        lines = self.cluster.on("head", "python3", "-c", program).splitlines()
        names = lines[0].lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:] if line]
        return {
            row["svname"]: row["status"] for row in rows if row["pxname"] == "boards" and row["svname"] != "BACKEND"
        }


def wait_until(true: Callable[[], bool], what: str, seconds: float = WAIT) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.3)


@pytest.fixture(scope="module")
def served(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    lab = Lab(f"pytest-{os.getpid()}-serve", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(4)
        cluster = Cluster(lab)
        folder = tmp_path_factory.mktemp("serve")
        wheel = definitions.wheel(folder)
        inventory = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        inventory["all"]["vars"]["cluster_serve_packages"] = [f"{wheel}#sha256={digest}"]
        lab.inventory.write_text(yaml.safe_dump(inventory, sort_keys=False), encoding="utf-8")
        for words in (["bootstrap", "--json"], ["serve", "up", "--json"]):
            process = cluster.start(*words)
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, f"{words}\n{out[-5000:]}\n{err[-5000:]}"
        yield Served(cluster, folder)
    finally:
        lab.down()


def test_a_second_run_changes_nothing_and_only_the_named_ports_are_open(served: Served) -> None:
    cluster = served.cluster
    # One without its packages gets them, and nothing else, by ansible-playbook; and they are what clusteradm wants.
    folder = "/opt/clusteradm/serve"
    cluster.on("w1", "sh", "-c", f"rm -r {folder}/packages-* {folder}/wheels")
    results, _ = run_ansible(cluster.lab.inventory, shipped.PLAYBOOKS / "serving.yml", "--limit", "w1")
    assert {key[1] for key, found in results.items() if found[0]["_status"] not in ("ok", "skipped")} == {
        "Create the folder of wheels with Python functions",
        "Copy the wheels with Python functions",
        "Install the packages with Python functions",
    }
    document = json.loads(cluster.run("serve", "up", "--json")[0])
    assert {name: host["changed"] for name, host in document["hosts"].items()} == dict.fromkeys(cluster.nodes, 0)
    for node in cluster.nodes:
        assert cluster.on(node, "systemctl", "is-active", "clusteradm-serve").strip() == "active"
        assert cluster.on(node, "systemctl", "is-enabled", "clusteradm-serve").strip() == "enabled"
        owner = cluster.on(node, "sh", "-c", "ps -o user= -p $(systemctl show -P MainPID clusteradm-serve)")
        assert owner.strip() == "cluster"
        listening = {line.split()[3] for line in cluster.on(node, "ss", "-Hltn").splitlines()}
        listening = {re.sub(r"\[::ffff:([0-9.]+)\]", r"\1", each) for each in listening}
        address = cluster.on(node, "sh", "-c", f"getent ahostsv4 {node} | head -n 1 | cut -d' ' -f1").strip()
        http, grpc = (18000, 18001) if node == "head" else (8000, 8001)
        own = {f"{address}:{port}" for port in (http, grpc, 5555)}
        assert own <= listening
        balancer = {f"0.0.0.0:{port}" for port in (80, 8000, 8001, 8500, 8501)}
        balancer |= {f"{address}:{port}" for port in (8002, 8404)}
        serving = {
            each
            for each in listening
            if each.rpartition(":")[2]
            in ["80", "8000", "8001", "8002", "8500", "8501", "8404", "18000", "18001", "5555"]
        }
        assert serving == (own | balancer if node == "head" else own)


def test_a_route_through_another_network_of_a_board_leads_nowhere(served: Served) -> None:
    """Every host answers for its cluster's address on its management network too, where nobody asks for a token."""
    for place, through, ports in (("10.78.0.1", HEAD, (18000, 8404)), ("10.78.0.2", "10.77.0.2", (8000,))):
        assert served.inside("ip", "route", "add", place, "via", through).returncode == 0
        try:
            for port in ports:
                ask = [
                    "curl",
                    "-s",
                    "-m",
                    30,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    f"http://{place}:{port}/metrics",
                ]
                assert served.inside(*ask).stdout == "403", (place, port)
            ask = "import sys, zmq; s = zmq.Context().socket(zmq.REQ); s.LINGER = 0; s.connect(sys.argv[1]); "
            ask += "s.send(b'{\"model_request\": true}'); sys.exit(s.poll(2000))"
            assert served.inside(sys.executable, "-c", ask, f"tcp://{place}:5555").returncode == 0  # no answer
        finally:
            served.inside("ip", "route", "del", place)
    assert served.of_board("w1", "/v2").startswith("{")  # within it


def test_the_digits_are_read_and_infer_leaves_serving_its_tpus(served: Served) -> None:
    cluster = served.cluster
    model = Path(data.__file__).with_name("digits.tflite")
    served.deploy(model, "digits", "--labels", LABELS)
    refused = cluster.run("serve", "deploy", "digit", expect=2)[1]
    assert "digits" in refused
    said = cluster.run("serve", "deploy", "digits")[1]
    assert "4 of 4 boards followed" in said
    wait_until(lambda: set(served.haproxy().values()) == {"UP"}, "all boards are up")
    digits = data.load().held_out
    chosen = [int(np.flatnonzero(digits.labels == label)[0]) for label in range(10)]
    right = 0
    for label, index in enumerate(chosen):
        rows = json.dumps({"instances": digits.images[index][None, :, :, None].tolist()})
        path = served.folder / "rows.json"
        path.write_text(rows)
        status, body = served.curl("/v1/models/digits:predict", "-d", f"@{path}", port=8501)
        assert status == 200, body
        right += int(np.argmax(json.loads(body)["predictions"][0])) == label
    assert right >= 9
    # KServe's repository extension, through whichever board: all follow before it answers.
    status, body = served.curl("/v2/repository/models/digits/unload", "-X", "POST", "-d", "{}")
    assert status == 200, body
    assert served.curl("/v2/models/digits")[0] == 404
    assert served.index() == [{("digits", "", "UNAVAILABLE")}] * 8
    status, body = served.curl("/v2/repository/models/digits/load", "-X", "POST", "-d", "{}")
    assert status == 200, body
    assert served.curl("/v2/models/digits/ready")[0] == 200
    assert served.curl("/v2/repository/models/nothing/load", "-X", "POST", "-d", "{}")[0] == 404
    # No TPU is left for a job, which says who has them; health finds nothing wrong with that.
    images, truth = served.folder / "images", served.folder / "truth.csv"
    data.write_images(data.Digits(digits.images[:5], digits.labels[:5]), images, truth)
    refused = cluster.run("infer", "--model", "digits", images, expect=3)[1]
    assert "the host's server" in refused and "serve up --tpus" in refused
    tpus = [each for each in cluster.health()["findings"] if each["check"] == "tpu"]
    assert {each["severity"] for each in tpus} == {"ok"} and all("host's server" in each["detail"] for each in tpus)
    document = served.status(expect=0)
    assert sorted(document["followed"]) == cluster.nodes
    assert all(engine["simulated"] for board in document["boards"] for engine in board["state"]["engines"])
    # What the boards have counted, for Prometheus and on the screen.
    cluster.run("exporter", "--textfile", served.folder / "all.prom")
    lines = (served.folder / "all.prom").read_text().splitlines()
    mine = [line for line in lines if line.startswith("clusteradm_serving_requests_total") and 'model="digits"' in line]
    assert sum(int(line.split()[-1]) for line in mine if 'outcome="ok"' in line) >= 10
    (row,) = json.loads(cluster.run("top", "--json", "--interval", "1")[0])["endpoint"]
    assert (row["model"], row["boards"], row["errors"]) == ("digits", 4, 0.0) and row["requests"] >= 0


class Clients:
    """A load that runs, and what its requests said."""

    def __init__(self, served: Served, http: int, grpc: int) -> None:
        self.path = served.folder / f"load-{time.monotonic_ns()}.jsonl"
        words = [sys.executable, LOAD, HEAD, self.path, http, grpc]
        self.process = subprocess.Popen(
            ["nsenter", f"--net={served.cluster.lab.places.netns}", *map(str, words)], stderr=subprocess.PIPE, text=True
        )
        self.rate = http + grpc
        self.events: list[tuple[str, float]] = []

    def lines(self) -> list[dict[str, Any]]:
        return so_far(self.path)

    def goes_on(self, seconds: float) -> None:
        """Wait for so many seconds' requests."""
        assert self.process.poll() is None, self.process.communicate()[1]
        wanted = len(self.lines()) + int(seconds * self.rate * 0.8)
        wait_until(lambda: len(self.lines()) >= wanted, "the clients get answers")

    def event(self, name: str) -> None:
        self.events.append((name, time.time()))

    def end(self) -> list[dict[str, Any]]:
        self.process.terminate()
        err = self.process.communicate(timeout=120)[1]
        assert self.process.returncode == 0, err
        return self.lines()


def p99(lines: list[dict[str, Any]]) -> float:
    return float(np.quantile([line["seconds"] for line in lines], 0.99)) if lines else 0.0


def test_nothing_is_dropped(served: Served) -> None:
    cluster, lab = served.cluster, served.cluster.lab
    model = served.folder / "means.tflite"
    model.write_bytes(definitions.shades(224))
    served.deploy(model, "means")
    cluster.run("serve", "deploy", "means:1")
    # The same answers from another file.
    model.write_bytes(definitions.shades(224) + b"\0" * 16)
    served.deploy(model, "means", "--version", 2)
    model.write_bytes(definitions.shades(224) + b"\0" * 32)
    served.deploy(model, "means", "--version", 3)
    served.forget("w3")
    clients = Clients(served, 60, 40)
    try:
        clients.goes_on(8)
        clients.event("a board joins")
        cluster.run("serve", "up", "--json")
        wait_until(lambda: served.haproxy().get("w3") == "UP", "a new board gets requests")
        clients.goes_on(8)
        clients.event("a board loses power")
        lab.fault("w1", "power")
        wait_until(lambda: served.haproxy()["w1"].startswith("DOWN"), "a lost board leaves rotation")
        clients.goes_on(8)
        clients.event("it joins again")
        lab.restore("w1")
        clients.event("another freezes")
        lab.fault("w2", "freeze")
        wait_until(lambda: served.haproxy()["w2"].startswith("DOWN"), "a frozen board leaves rotation")
        clients.goes_on(8)
        lab.restore("w2")
        wait_until(lambda: set(served.haproxy().values()) == {"UP"}, "both are back")
        clients.event("a TPU wedges")
        lab.fault("w3", "wedged")
        clients.goes_on(8)
        lab.restore("w3")
        wait_until(lambda: set(served.haproxy().values()) == {"UP"}, "the TPU is back")
        clients.event("a version is rolled out, and back")
        cluster.run("serve", "deploy", "means:2")
        clients.goes_on(3)
        clients.event("a version that cannot be loaded")
        broken = f"{SHARED}/models/means/3/model.tflite"
        cluster.on("head", "sh", "-c", f"chmod u+w {broken} && echo x >>{broken}")
        said = cluster.run("serve", "deploy", "means:3", expect=3)[1]
        assert said.count("means version 3: its files are not as they were deployed") == 4
        clients.goes_on(3)
        cluster.run("serve", "deploy", "means:1")
        clients.event("it moves to two boards")
        cluster.run("serve", "deploy", "means:1", "--hosts", "w[1:2]")
        wait_until(lambda: served.placed() == {"w1", "w2"}, "it leaves the others when it is ready")
        clients.event("it is there alone")
        # A board that does not have it says where it is, and HAProxy asks none that does not.
        wait_until(lambda: "ask w1, w2" in served.of_board("w3", "/v2/models/means"), "w3 has unloaded it")
        assert served.curl("/v2/models/means/ready")[0] == 200
        assert all(("means", "1", "READY") in index for index in served.index())
        clients.goes_on(5)
        clients.event("it is everywhere again")
        cluster.run("serve", "deploy", "means:1", "--tpus", "all")
        wait_until(lambda: served.placed() == set(), "it is everywhere again")
        clients.event("a canary")
        cluster.run("serve", "canary", "means", "--version", 2, "--percent", 20)
        clients.goes_on(5)
        cluster.run("serve", "canary", "means", "--version", 2, "--percent", 0)
        clients.event("a board is drained, and HAProxy is reloaded")
        cluster.run("serve", "drain", "w1")
        wait_until(lambda: served.haproxy()["w1"] in ("NOLB", "DRAIN"), "a drained board leaves rotation")
        cluster.on("head", "systemctl", "reload", "haproxy")
        clients.goes_on(6)
        cluster.run("serve", "undrain", "w1")
        clients.event("the NFS server stops")
        cluster.on("head", "systemctl", "stop", "nfs-ganesha")
        clients.goes_on(8)
        cluster.on("head", "systemctl", "start", "nfs-ganesha")
        clients.goes_on(3)
    finally:
        clients.event("the end")
        lines = clients.end()
        cluster.restore()
    wrong = [line for line in lines if line["wrong"]]
    assert wrong == [], f"{len(wrong)} of {len(lines)}; events: {clients.events}"
    assert {line["how"] for line in lines} == {"http", "grpc"}
    assert {line["version"] for line in lines} == {"1", "2"}
    at = dict(clients.events)
    canary, drained = at["a canary"], at["a board is drained, and HAProxy is reloaded"]
    joined, lost = at["a board joins"], at["a board loses power"]
    assert "w3" in {line["board"] for line in lines if joined < line["at"] < lost}
    alone, again = at["it is there alone"], at["it is everywhere again"]
    assert {line["board"] for line in lines if alone + 1 < line["at"] < again} == {"w1", "w2"}
    versions = [line["version"] for line in lines if canary < line["at"] < drained]
    assert 0 < versions.count("2") < versions.count("1")
    first = clients.events[0][1]
    usual = p99([line for line in lines if line["at"] < first])
    for (name, began), (_, ended) in zip(clients.events, clients.events[1:], strict=False):
        later = [line for line in lines if began + 5 <= line["at"] < ended]
        assert p99(later) < max(5 * usual, 2.0), name


# Asks for its models at random (in turn they would be in step with the boards) until it is ended.
TURNS = """
import http.client, json, random, sys, time
host, *names = sys.argv[1:]
entry = {"name": "in", "shape": [1, 16, 16, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 768}}
head = json.dumps({"inputs": [entry]}).encode()
connection = http.client.HTTPConnection(host, 8000, timeout=60)
while True:
    name = random.choice(names)
    headers = {"Inference-Header-Content-Length": len(head)}
    try:
        connection.request("POST", f"/v2/models/{name}/infer", head + bytes(768), headers)
        answer = connection.getresponse()
        text = answer.read()
    except OSError:  # HAProxy was reloaded; the next one connects again
        connection.close()
        continue
    assert answer.status == 200, text
    time.sleep(0.01)
"""
TURN = ("heads", "tails")


@pytest.fixture(scope="module")
def turns(served: Served) -> Iterator[subprocess.Popen[str]]:
    """A client of two models of 8 MB, of which a TPU keeps one: while it asks, the tests that are next go on."""
    model = served.folder / "large.tflite"
    model.write_bytes(definitions.shades() + bytes(8 << 20))
    for name in TURN:
        served.deploy(model, name)
        served.cluster.run("serve", "deploy", name)
    netns = f"--net={served.cluster.lab.places.netns}"
    process = subprocess.Popen(
        ["nsenter", netns, sys.executable, "-c", TURNS, HEAD, *TURN], stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


READ = """
kind: ensemble
inputs: [{name: picture, datatype: BYTES, shape: [1]}]
steps:
  - {name: digit, model: digits, inputs: {"serving_default_keras_tensor_24:0": picture}}
  - {name: named, model: names, inputs: {class: digit.classes}}
outputs: [{name: word, from: named.name}, {name: score, from: digit.scores}]
"""


@pytest.mark.usefixtures("turns")
def test_servables_of_other_kinds(served: Served) -> None:
    cluster, folder = served.cluster, served.folder
    (folder / "names.json").write_text(
        json.dumps(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    )
    for name, text in (("names", definitions.NAMES), ("double", definitions.DOUBLE), ("read", READ)):
        (folder / f"{name}.yml").write_text(text)
        cluster.run("deploy-model", folder / f"{name}.yml", "--name", name)
    (folder / "wrong.yml").write_text(READ.replace("class: digit.classes", "class: digit.scores"))
    said = cluster.run("deploy-model", folder / "wrong.yml", "--name", "read", expect=2)[1]
    assert "step named: its input class is INT32 [-1], and gets FP32 [1]" in said
    said = cluster.run("serve", "deploy", "read", expect=3)[1]
    assert "step named: model names is not served here: clusteradm serve deploy names" in said
    for name in ("names", "double", "read"):
        assert "4 of 4 boards followed" in cluster.run("serve", "deploy", name)[1]
    digits = data.load().held_out
    index = int(np.flatnonzero(digits.labels == 3)[0])
    images = folder / "three"
    data.write_images(
        data.Digits(digits.images[index : index + 1], digits.labels[index : index + 1]), images, folder / "t"
    )
    (picture,) = images.iterdir()
    encoded = base64.b64encode(picture.read_bytes()).decode()
    (folder / "ask.json").write_text(json.dumps({"inputs": {"picture": [{"b64": encoded}]}}))
    status, body = served.curl("/v1/models/read:predict", "-i", "-d", f"@{folder / 'ask.json'}", port=8501)
    assert status == 200, body
    assert json.loads(body.rpartition("\n\n")[2])["outputs"]["word"] == ["three"]
    # Its steps ran on a TPU, which the answer names.
    assert re.search(r"clusteradm-tpu: 000[01]:[0-9a-f:.]+", body, re.IGNORECASE)
    status, body = served.curl("/v1/models/double:predict", "-d", '{"inputs": {"x": [1.5, 2]}}')
    assert (status, json.loads(body)["outputs"]["y"]) == (200, [3, 4])
    # What ends its process is not tried on the next board, and the process comes again.
    status, body = served.curl("/v1/models/double:predict", "-d", '{"inputs": {"x": [-2]}}')
    assert status == 500, body
    assert "its process was lost while it worked on this request" in body
    wait_until(lambda: len(served.status()["followed"]) == 4, "all is well again")
    assert served.curl("/v1/models/names:predict", "-d", '{"instances": [7]}') == (200, '{"predictions":["seven"]}')
    assert "jobs run models alone" in cluster.run("infer", "--model", "names", images, expect=2)[1]
    kinds = {
        each["name"]: each.get("servable", {}).get("kind")
        for each in json.loads(cluster.run("model", "list", "--json")[0])["models"]
    }
    assert kinds == {
        **dict.fromkeys(("digits", "means", *TURN)),
        "names": "lookup",
        "double": "python",
        "read": "ensemble",
    }
    for name in ("read", "names", "double"):
        cluster.run("serve", "undeploy", name)


def test_models_that_swap_are_parted(served: Served, turns: subprocess.Popen[str]) -> None:
    """With the simulated time of parameters on their way to the chip: 20 ms for these, beside 2.6 of an inference."""

    def tpus() -> list[set[str]]:
        """Of each of them, those where the desired state has it; empty for everywhere."""
        found = served.cluster.on("head", "cat", f"{SHARED}/serving/desired.json")
        placement = {each["name"]: set(each["tpus"]) for each in json.loads(found)["placement"]}
        return [placement.get(name, set()) for name in TURN]

    wait_until(lambda: all(tpus()), "swaps part them")
    # What is shown is what was measured: the chip's time, which is next to nothing for the small models among them.
    engines = [each for board in served.status()["boards"] for each in board["state"]["engines"] if each["swaps"]]
    assert engines and all(each["simulated"] for each in engines)
    spent = sum(each["swap_seconds"] for each in engines) / sum(each["swaps"] for each in engines)
    assert spent > 0.006
    metrics = served.of_board("w1", "/metrics")
    assert float(re.search(r"^clusteradm_serve_engine_swap_seconds_total\{.*\} (\S+)$", metrics, re.M)[1]) > 0
    wait_until(lambda: len(set.union(*tpus())) == sum(map(len, tpus())), "no TPU is for both")
    assert turns.poll() is None, turns.communicate()[1]

    # Once each board has but its own, none swaps any more.
    counts = [-1]

    def rests() -> bool:
        boards = served.status()["boards"]
        counts.append(sum(each["swaps"] for board in boards for each in board["state"]["engines"]))
        return counts[-1] == counts[-2]

    wait_until(rests, "there are no more swaps")
    assert turns.poll() is None, turns.communicate()[1]
    turns.kill()
    for name in TURN:
        served.cluster.run("serve", "undeploy", name)


def test_down_leaves_nothing_and_the_tpus_to_jobs(served: Served) -> None:
    cluster = served.cluster
    cluster.run("serve", "down")
    for node in cluster.nodes:
        listening = cluster.on(node, "ss", "-Hltn")
        assert not any(f":{port} " in listening for port in (8000, 8001, 8500, 8501, 8404, 18000, 18001, 5555))
    images = served.folder / "images"
    document = cluster.infer("--model", "digits", images, "--output", served.folder / "results.jsonl")
    assert document["state"] == "complete"
    assert "does not serve yet" in cluster.run("serve", "status", expect=2)[1]
