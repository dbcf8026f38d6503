"""Clients of an endpoint: so many requests a second over HTTP and gRPC, each with an answer that is known.

`python serve_load.py HOST FILE HTTP-RATE GRPC-RATE`, in the network of a lab: writes a line of JSON for each request to
FILE until SIGTERM: when it began (time.time()), seconds, protocol, what was wrong ("" for nothing), version, board.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any, TextIO

import numpy as np

SIDE = 224
HTTP_PORT, GRPC_PORT = 8000, 8001
_CONNECTIONS = 24
_SECONDS = 60.0  # for an answer


class Load:
    """Requests at a steady rate, whatever becomes of those before; what is late is begun at once."""

    def __init__(self, host: str, file: TextIO) -> None:
        self.host, self._file = host, file
        self.picture = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
        self.means = self.picture.mean(axis=(0, 1, 2))
        self.stopping = asyncio.Event()
        self._connections: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]

    def check(self, values: Any) -> str:
        found = np.asarray(values, np.float64).ravel()
        return "" if found.shape == (3,) and np.abs(found - self.means).max() <= 2 else f"wrong answer: {found[:5]}"

    async def run(self, rates: dict[Any, float]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        self._connections = asyncio.LifoQueue()
        for _ in range(_CONNECTIONS):
            self._connections.put_nowait(None)
        await asyncio.gather(*(self._steady(ask, rate) for ask, rate in rates.items() if rate))

    async def _steady(self, ask: Any, rate: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self.stopping.is_set():
            task = asyncio.create_task(self._one(ask))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*tasks)

    async def _one(self, ask: Any) -> None:
        began, started = time.time(), time.monotonic()
        about: dict[str, Any] = {}
        try:
            wrong, about = await asyncio.wait_for(ask(), _SECONDS)
        except Exception as error:  # whatever a client can be told
            wrong = f"{type(error).__name__}: {error}"[:300]
        seconds = time.monotonic() - started
        line = {"at": began, "seconds": seconds, "how": ask.__name__, "wrong": wrong, **about}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    async def http(self) -> tuple[str, dict[str, Any]]:
        data = self.picture.tobytes()
        entry = {"name": "in", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8"}
        entry["parameters"] = {"binary_data_size": len(data)}
        head = json.dumps({"inputs": [entry]}).encode()
        request = (
            f"POST /v2/models/means/infer HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/octet-stream\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + len(data)}\r\n\r\n"
        )
        connection = await self._connections.get()
        try:
            if connection is None or connection[0].at_eof():
                connection = await asyncio.open_connection(self.host, HTTP_PORT)
            reader, writer = connection
            writer.write(request.encode() + head + data)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(headers["content-length"]))
            if headers.get("connection") == "close":
                writer.close()
                connection = None
        except BaseException:
            if connection is not None:
                connection[1].close()
            self._connections.put_nowait(None)
            raise
        self._connections.put_nowait(connection)
        status = int(lines[0].split()[1])
        if status != 200:
            return f"{status}: {body[:200]!r}", {}
        answer = json.loads(body)
        about = {"version": answer.get("model_version"), "board": answer["parameters"]["board"]}
        return self.check(answer["outputs"][0]["data"]), about

    async def grpc(self) -> tuple[str, dict[str, Any]]:
        from tritonclient.grpc import InferInput

        entry = InferInput("in", [1, SIDE, SIDE, 3], "UINT8")
        entry.set_data_from_numpy(self.picture)
        answer = await self.client.infer("means", [entry], client_timeout=_SECONDS)
        found = answer.get_response()
        about = {"version": found.model_version, "board": found.parameters["board"].string_param}
        return self.check(answer.as_numpy(found.outputs[0].name)), about


async def main(host: str, path: str, http_rate: float, grpc_rate: float) -> None:
    with open(path, "a", encoding="utf-8") as file:
        load = Load(host, file)
        if grpc_rate:
            from tritonclient.grpc.aio import InferenceServerClient

            load.client = InferenceServerClient(f"{host}:{GRPC_PORT}")
        await load.run({load.http: http_rate, load.grpc: grpc_rate})
        if grpc_rate:
            await load.client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
