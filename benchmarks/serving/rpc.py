"""Client that speaks gRPC: the same message again and again, over one channel.

`rate`: calls a second, by the clock; 0: `connections` at a time, each as soon as the one before has ended.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import grpc

from clusteradm.node.serve.fronts.proto import kserve_pb2


def main() -> None:
    """`rpc.py SPEC`, SPEC being JSON; the result is JSON on standard output."""
    spec = json.loads(sys.argv[1])
    message = kserve_pb2.InferRequest(model_name="m")
    message.inputs.add(name="input", datatype="UINT8", shape=[1, spec["side"], spec["side"], 3])
    message.raw_input_contents.append(bytes(spec["side"] ** 2 * 3))
    data = message.SerializeToString()
    channel = grpc.insecure_channel(f"{spec['host']}:{spec['port']}")
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    call(data, wait_for_ready=True)
    took: list[float] = []
    failed: list[str] = []
    lock = threading.Lock()
    end = time.perf_counter() + spec["seconds"]
    room = threading.Semaphore(10**9 if spec["rate"] else spec["connections"])

    def ended(future: grpc.Future, due: float) -> None:
        with lock:
            took.append(time.perf_counter() - due)
            if future.code() is not grpc.StatusCode.OK:
                failed.append(str(future.details()))
        room.release()

    start = time.perf_counter()
    count = 0
    while time.perf_counter() < end:
        room.acquire()
        due = start + count / spec["rate"] if spec["rate"] else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        call.future(data).add_done_callback(lambda future, due=due: ended(future, due))
        count += 1
    while len(took) < count:
        time.sleep(0.001)
    whole = time.perf_counter() - start
    if failed:
        raise SystemExit(f"{len(failed)} of {count} calls failed: {failed[0]}")
    took.sort()
    found = {"requests": count, "seconds": whole, "p50": took[count // 2], "p99": took[-1 - count // 100]}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
