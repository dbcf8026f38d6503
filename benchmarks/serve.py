"""A board's server beside the runtime's own loop, on a simulated Edge TPU of 2.6 ms (a limit of 385 a second).

    python benchmarks/serve.py [--rounds 3] [--seconds 8] [--json FILE]      (as root: its mounts are its own)

Inputs are tensors of 224x224x3 bytes, 150 KB, as KServe's binary REST and gRPC, over loopback. The client has the same
processors. Added time: the median at half load (192 a second, by the clock) less that of the loop. Processor time: of
all processes of the server, for each request. Saturation: answers a second for 8 connections that never wait, as a
share of the loop's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from record import Record
from serving import client, tpu

import clusteradm
from clusteradm.models.upload import prepare
from clusteradm.node.spec.wire.manifest import MANIFEST, SUMS, sums_text

PARTS = Path(client.__file__).parent
HALF = 192.0  # requests a second
CONNECTIONS = 8


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


class Server:
    """The server, ready."""

    def __init__(self, folder: Path, device: tpu.Tpu, shared: Path) -> None:
        self.ports = free_ports(3)
        names = ("http_port", "grpc_port", "zmq_port")
        config = {"host": "bench", "address": "127.0.0.1", "shared": str(shared), "cache": str(folder / "cache")}
        path = folder / "serve.json"
        path.write_text(json.dumps({**config, **dict(zip(names, self.ports, strict=True))}))
        log = (folder / "log").open("wb")
        command = [sys.executable, "-m", "clusteradm.node.serve", "--config", str(path)]
        self.process = subprocess.Popen(command, env=device.environment, stdout=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 60
        while not self._ready():
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"the server does not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/v2/models/m/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def processes(self) -> list[int]:
        """The process ids of all of it."""
        found = [self.process.pid]
        for pid in found:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Megabytes, shared pages counted once."""
        lines = [
            line for pid in self.processes() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        ]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000

    def end(self) -> None:
        """Have it drain and end."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def inference(port: int) -> bytes:
    """A request of KServe's REST with the tensor as bytes."""
    shape = [1, tpu.SIDE, tpu.SIDE, 3]
    size = tpu.SIDE * tpu.SIDE * 3
    entry = {"name": "input", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return client.request(f"127.0.0.1:{port}", "/v2/models/m/infer", head + bytes(size), headers)


def ask(data: Path, port: int, seconds: float, connections: int, rate: float) -> dict[str, Any]:
    """One run of the client, in a process of its own."""
    spec = {"host": "127.0.0.1", "port": port, "data": str(data), "seconds": seconds}
    argument = json.dumps({**spec, "connections": connections, "rate": rate})
    done = subprocess.run([sys.executable, PARTS / "client.py", argument], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"]:
        raise SystemExit(f"{found['failed']} of {found['requests']} requests failed")
    return found


def ask_grpc(port: int, seconds: float, rate: float) -> dict[str, Any]:
    """One run of the client that speaks gRPC, in a process of its own."""
    spec = json.dumps({"port": port, "side": tpu.SIDE, "seconds": seconds, "rate": rate})
    done = subprocess.run([sys.executable, PARTS / "rpc.py", spec], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(folder: Path, rounds: int, seconds: float, record: Record) -> None:
    """All rounds: the loop and the server in turn."""
    device = tpu.Tpu(folder, 2.6)
    try:
        rounds_of(folder, device, rounds, seconds, record)
    finally:
        device.end()


def rounds_of(folder: Path, device: tpu.Tpu, rounds: int, seconds: float, record: Record) -> None:
    """All rounds on this device."""
    shared = folder / "shared"
    shared.mkdir()
    model = repository(shared)
    figures = record.figures
    for number in range(rounds):
        command = [sys.executable, PARTS / "raw.py", model, str(seconds)]
        raw = json.loads(subprocess.run(command, env=device.environment, stdout=subprocess.PIPE, check=True).stdout)
        own = folder / f"round-{number}"
        own.mkdir()
        server = Server(own, device, shared)
        try:
            found = one_round(own, server, seconds)
        finally:
            server.end()
        for name, value in (("loop, p50 ms", 1000 * raw["p50"]), ("loop, a second", raw["rate"]), *found):
            figures.setdefault(name, []).append(round(value, 3))


def one_round(folder: Path, server: Server, seconds: float) -> list[tuple[str, float]]:
    """The figures of a server, by name."""
    port = server.ports[0]
    data = folder / "request"
    data.write_bytes(inference(port))
    ask(data, port, 1.0, 2, 0.0)
    before = server.cpu()
    half = ask(data, port, seconds, CONNECTIONS, HALF)
    spent = server.cpu() - before
    before = server.cpu()
    rpc = ask_grpc(server.ports[1], seconds, HALF)
    spent_rpc = server.cpu() - before
    full = ask(data, port, seconds, CONNECTIONS, 0.0)
    return [
        ("REST binary at half load, p50 ms", 1000 * half["p50"]),
        ("REST binary at half load, p99 ms", 1000 * half["p99"]),
        ("REST binary, processor us a request", 1e6 * spent / half["requests"]),
        ("gRPC at half load, p50 ms", 1000 * rpc["p50"]),
        ("gRPC at half load, p99 ms", 1000 * rpc["p99"]),
        ("gRPC, processor us a request", 1e6 * spent_rpc / rpc["requests"]),
        ("REST binary, 8 connections, a second", full["requests"] / full["seconds"]),
        ("memory of the server, MB", server.memory()),
    ]


def judge(record: Record) -> None:
    """Ratios of the medians, and what they are to reach."""
    middle = {name: statistics.median(values) for name, values in record.figures.items()}
    added = middle["REST binary at half load, p50 ms"] - middle["loop, p50 ms"]
    share = middle["REST binary, 8 connections, a second"] / middle["loop, a second"]
    for name, value, goal in (
        ("0.7 ms over the added time at half load", 0.7 / max(added, 1e-3), 1.0),
        ("600 us over the processor time of a request", 600 / middle["REST binary, processor us a request"], 1.0),
        ("answers a second over the loop's", share, 0.95),
        ("200 MB over the memory", 200 / middle["memory of the server, MB"], 1.0),
    ):
        record.ratios[name], record.goals[name] = round(value, 3), goal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tpu.enter_namespace()
    record = Record("serve", {"clusteradm": clusteradm.__version__, "python": platform.python_version()})
    with tempfile.TemporaryDirectory(prefix="clusteradm-bench-") as folder:
        measure(Path(folder), args.rounds, args.seconds, record)
    judge(record)
    for name, values in record.figures.items():
        print(f"  {name:<58} {' '.join(f'{value:8.2f}' for value in values)}")
    for line in record.lines():
        print(line)
    if args.json:
        record.write(args.json)


if __name__ == "__main__":
    main()
