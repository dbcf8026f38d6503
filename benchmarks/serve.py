"""A board's server beside the runtime's own loop and servers of others, on a simulated Edge TPU of 2.6 ms.

    python benchmarks/serve.py [--rounds 3] [--seconds 8] [--peers PREFIX] [--json FILE]    (root: mounts of its own)

Inputs are tensors of 224x224x3 bytes, 150 KB, as KServe's binary REST and gRPC, over loopback. The client has the same
processors. All in turn in each round.

Added time: the median at half load (192 a second, by the clock) less that of the loop at the same rate. Processor time:
of all processes of the server, for each request; the loop's own is in it. Saturation: answers a second for 8
connections that never wait, as a share of the loop's. Through HAProxy: with the configuration of `serve up`.

Peers (benchmarks/serving/peers.py): MLServer, KServe's own server and PyTriton around the same loop on the same device,
each in PREFIX-NAME, asked by the same clients, two requests at a time: requests for each second of processor, ours over
theirs. MLServer has no binary tensors over REST (SeldonIO/MLServer#324): gRPC alone.

Eight boards behind HAProxy: NO DEVICE AND NO MODEL, an interpreter that SLEEPS (benchmarks/infer/sleeping). Answers a
second as a share of the sum of eight devices, for devices that are slower and faster: where two cores end is where the
share falls.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import Record, ratio
from serving import client, tpu
from serving.proxy import proxy
from serving.servers import Server, environment, ours, peer

import clusteradm
from clusteradm.models.upload import prepare
from clusteradm.node.spec.wire.manifest import MANIFEST, SUMS, sums_text

PARTS = Path(client.__file__).parent
SLEEPING = PARTS.parent / "infer/sleeping"
SIZE = tpu.SIDE * tpu.SIDE * 3  # bytes of an input
HALF = 192.0  # requests a second
CONNECTIONS = 8
PEERS = ("mlserver", "kserve", "pytriton")
BOARDS = 8
SLEEPS = (40.0, 20.0, 10.0, 5.0)  # milliseconds
SLOW_START = 2.5  # seconds until HAProxy sends a board its whole share


def repository(shared: Path) -> Path:
    """A repository with the model, and the desired state that it is served; the model's file."""
    source = shared / "model.tflite"
    source.write_bytes(tpu.model())
    upload = prepare(source, "m")
    files = {**upload.files, MANIFEST: json.dumps({**upload.manifest.to_json(), "version": 1}).encode()}
    folder = shared / "models/m/1"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / SUMS).write_text(sums_text({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}))
    desired = {"format": 1, "revision": 1, "models": [{"name": "m", "policy": {"kind": "latest"}}]}
    (shared / "serving").mkdir()
    (shared / "serving/desired.json").write_text(json.dumps(desired))
    return folder / "model.tflite"


def inference(name: str = "input") -> bytes:
    """A request of KServe's REST with the tensor as bytes."""
    shape = [1, tpu.SIDE, tpu.SIDE, 3]
    entry = {"name": name, "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": SIZE}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return client.request("127.0.0.1", "/v2/models/m/infer", head + bytes(SIZE), headers)


class Run:
    """One run of the client: milliseconds, answers a second, microseconds of processor a request, of the server and of
    what is before it."""

    def __init__(self, found: dict[str, Any], spent: float, more: float = 0.0) -> None:
        self.p50, self.p99 = 1e3 * found["p50"], 1e3 * found["p99"]
        self.rate = found["requests"] / found["seconds"]
        self.cpu, self.more = 1e6 * spent / found["requests"], 1e6 * more / found["requests"]


def run(program: str, *arguments: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    """A program of benchmarks/serving in a process of its own; what it says."""
    command = [sys.executable, str(PARTS / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found.get("failed"):
        raise SystemExit(f"{found['failed']} of {found['requests']} requests failed")
    return found


def ask(server: Server, seconds: float, connections: int, rate: float, data: Path, front: Server | None = None) -> Run:
    """A run of the client that speaks HTTP. `front`: what it asks before the server."""
    asked = front or server
    spec = {"host": asked.host, "port": asked.http, "data": str(data), "seconds": seconds}
    before, others = server.cpu(), front.cpu() if front else 0.0
    found = run("client.py", json.dumps({**spec, "connections": connections, "rate": rate}))
    return Run(found, server.cpu() - before, front.cpu() - others if front else 0.0)


def ask_grpc(server: Server, seconds: float, connections: int, rate: float, front: Server | None = None) -> Run:
    """A run of the one that speaks gRPC."""
    asked = front or server
    spec = {"host": asked.host, "port": asked.grpc, "side": tpu.SIDE, "seconds": seconds}
    before, others = server.cpu(), front.cpu() if front else 0.0
    found = run("rpc.py", json.dumps({**spec, "connections": connections, "rate": rate}))
    return Run(found, server.cpu() - before, front.cpu() - others if front else 0.0)


class Bench:
    """What all rounds share. `peers`: the beginning of the folders of their virtual environments."""

    def __init__(self, folder: Path, seconds: float, peers: str | None, record: Record) -> None:
        self.folder, self.seconds, self.record = folder, seconds, record
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.model = repository(self.shared)
        self.data = folder / "request"
        self.data.write_bytes(inference())
        self.device = tpu.Tpu(folder, 2.6)
        found = {name: Path(f"{peers}-{name}/bin/python") for name in PEERS} if peers else {}
        self.peers = {name: python for name, python in found.items() if python.exists()}
        for name in PEERS:
            if name not in self.peers:
                print(f"{name} is left out: {found.get(name, 'no --peers')} is not there", file=sys.stderr)

    def keep(self, name: str, value: float) -> None:
        self.record.figures.setdefault(name, []).append(round(value, 3))

    def round(self, number: int) -> None:
        """The loop, ours and the peers, one after the other: they share the device."""
        paced, full = (
            run("raw.py", self.model, self.seconds, rate, env=self.device.environment) for rate in (HALF, 0.0)
        )
        self.keep("loop at half load, p50 ms", 1e3 * paced["p50"])
        self.keep("loop at half load, processor us an inference", 1e6 * paced["cpu"])
        self.keep("loop, a second", full["rate"])
        own = self.folder / f"round-{number}"
        own.mkdir()
        server = ours(own, self.shared, self.device.environment, "127.0.0.2")
        try:
            server.wait()
            self.ours(own, server)
        finally:
            server.end()
        for name, python in self.peers.items():
            folder = self.folder / f"{name}-{number}"
            folder.mkdir()
            other = peer(name, python, self.model, folder, self.device.environment)
            try:
                other.wait()
                self.pairs(name, other)
            finally:
                other.end()

    def ours(self, folder: Path, server: Server) -> None:
        """The figures of our server."""
        seconds, data = self.seconds, self.data
        ask(server, 1.0, 2, 0.0, data)
        for name, found in (
            ("REST binary", ask(server, seconds, CONNECTIONS, HALF, data)),
            ("gRPC", ask_grpc(server, seconds, 1, HALF)),
        ):
            self.keep(f"{name} at half load, p50 ms", found.p50)
            self.keep(f"{name} at half load, p99 ms", found.p99)
            self.keep(f"{name} at half load, processor us a request", found.cpu)
        full = ask(server, seconds, CONNECTIONS, 0.0, data)
        self.keep("REST binary, 8 connections, a second", full.rate)
        self.pairs("ours", server)
        (folder / "haproxy").mkdir()
        front = proxy(folder / "haproxy", [server], SIZE)
        try:
            front.wait()
            for name, found in (
                ("REST binary", ask(server, seconds, CONNECTIONS, HALF, data, front)),
                ("gRPC", ask_grpc(server, seconds, 1, HALF, front)),
            ):
                self.keep(f"{name} through HAProxy at half load, p50 ms", found.p50)
                self.keep(f"{name} through HAProxy at half load, processor us a request", found.cpu)
                self.keep(f"{name}, processor us of HAProxy a request", found.more)
        finally:
            front.end()
        self.keep("memory of the server, MB", server.memory())

    def pairs(self, name: str, server: Server) -> None:
        """Two requests at a time, as fast as they are answered: for the comparison with others."""
        if name != "mlserver":
            ask(server, 0.5, 2, 0.0, self.data)
            found = ask(server, self.seconds, 2, 0.0, self.data)
            self.keep(f"{name}, REST binary, 2 connections, a second", found.rate)
            self.keep(f"{name}, REST binary, processor us a request", found.cpu)
        ask_grpc(server, 0.5, 2, 0.0)
        found = ask_grpc(server, self.seconds, 2, 0.0)
        self.keep(f"{name}, gRPC, 2 at a time, a second", found.rate)
        self.keep(f"{name}, gRPC, processor us a request", found.cpu)

    def boards(self, milliseconds: float) -> None:
        """Eight boards, whose devices sleep, behind HAProxy."""
        folder = self.folder / f"boards-{milliseconds:g}"
        folder.mkdir()
        env = environment(SLEEPING_MS=str(milliseconds), PYTHONPATH=_paths(SLEEPING))
        data = folder / "request"
        data.write_bytes(inference("x"))
        started: list[Server] = []
        try:
            for number in range(1, BOARDS + 1):
                own = folder / f"board-{number}"
                own.mkdir()
                started.append(ours(own, self.shared, env, f"127.0.0.{number + 1}", [None]))
            for board in started:
                board.wait()
            started.append(proxy(folder, started, SIZE))
            front = started[-1]
            front.wait()
            time.sleep(SLOW_START)
            spec = {"host": front.host, "port": front.http, "data": str(data), "seconds": self.seconds}
            spec = {**spec, "connections": 3 * BOARDS, "rate": 0.0}
            found = run("client.py", json.dumps(spec))
        finally:
            for each in reversed(started):
                each.process.terminate()
            for each in started:
                each.end()
        share = found["requests"] / found["seconds"] / (BOARDS * 1e3 / milliseconds)
        self.keep(
            f"8 boards, devices that SLEEP {milliseconds:g} ms, of the sum of {BOARDS * 1e3 / milliseconds:g}", share
        )


def _paths(first: Path) -> str:
    return os.pathsep.join(filter(None, [str(first), os.environ.get("PYTHONPATH", ""), *sys.path[1:2]]))


def judge(record: Record) -> None:
    """Ratios of the medians, and what they are to reach."""
    figures = record.figures
    middle = {name: statistics.median(values) for name, values in figures.items()}
    added = middle["REST binary at half load, p50 ms"] - middle["loop at half load, p50 ms"]
    share = middle["REST binary, 8 connections, a second"] / middle["loop, a second"]
    found = [
        ("0.7 ms over the added time at half load", 0.7 / max(added, 1e-3), 1.0),
        (
            "600 us over the processor time of a request",
            600 / middle["REST binary at half load, processor us a request"],
            1.0,
        ),
        ("answers a second over the loop's", share, 0.95),
        ("200 MB over the memory", 200 / middle["memory of the server, MB"], 1.0),
    ]
    for name in PEERS:
        for how in ("REST binary", "gRPC"):
            theirs, own = (figures.get(f"{who}, {how}, processor us a request") for who in (name, "ours"))
            if theirs and own:
                found.append((f"requests a processor second, {how}, over {name}'s", ratio(theirs, own), 1.0))
    slow = next((name for name in middle if name.startswith(f"8 boards, devices that SLEEP {SLEEPS[0]:g} ms")), None)
    if slow:
        found.append((f"{slow} a second", middle[slow], 0.95))
    for name, value, goal in found:
        record.ratios[name], record.goals[name] = round(value, 3), goal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--peers", metavar="PREFIX", help="virtual environments: PREFIX-mlserver and so on")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tpu.enter_namespace()
    record = Record("serve", {"clusteradm": clusteradm.__version__, "python": platform.python_version()})
    with tempfile.TemporaryDirectory(prefix="clusteradm-bench-") as folder:
        bench = Bench(Path(folder), args.seconds, args.peers and str(Path(args.peers).resolve()), record)
        try:
            for number in range(args.rounds):
                bench.round(number)
        finally:
            bench.device.end()
        for milliseconds in SLEEPS:
            bench.boards(milliseconds)
    judge(record)
    for name, values in record.figures.items():
        print(f"  {name:<74} {' '.join(f'{value:8.2f}' for value in values)}")
    for line in record.lines():
        print(line)
    if args.json:
        record.write(args.json)


if __name__ == "__main__":
    main()
