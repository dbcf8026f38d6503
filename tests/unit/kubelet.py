"""A kubelet in tests: its side of the device plugin API, on a Unix socket."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from clusteradm.kubernetes.proto import deviceplugin_pb2 as messages

SECONDS = 30.0


class Kubelet:
    """Takes registrations, and asks the plugin as a kubelet does. `refuse`: what it says to a registration instead."""

    def __init__(self, folder: Path, refuse: str = "") -> None:
        self.folder, self._refuse = folder, refuse
        self.registered: queue.Queue[Any] = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        handler = grpc.unary_unary_rpc_method_handler(
            self._register, messages.RegisterRequest.FromString, messages.Empty.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
        )
        # As a kubelet that starts.
        for socket in folder.glob("*.sock"):
            socket.unlink()
        self._server.add_insecure_port(f"unix:{folder / 'kubelet.sock'}")
        self._server.start()

    def _register(self, request: Any, context: Any) -> Any:
        if self._refuse:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self._refuse)
        self.registered.put(request)
        return messages.Empty()

    def close(self) -> None:
        self._server.stop(0).wait()

    def plugin(self) -> Plugin:
        """The plugin that registers next."""
        request = self.registered.get(timeout=SECONDS)
        return Plugin(self.folder / request.endpoint, request)


class Plugin:
    """A plugin that has registered: `request` was its own."""

    def __init__(self, socket: Path, request: Any) -> None:
        self.request = request
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self._lists: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stream = self._channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=messages.Empty.SerializeToString,
            response_deserializer=messages.Devices.FromString,
        )(messages.Empty(), wait_for_ready=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for answer in self._stream:
                self._lists.put({device.ID: device for device in answer.devices})
        except grpc.RpcError:
            pass

    def devices(self) -> dict[str, Any]:
        """The next list of devices, by their ids."""
        return self._lists.get(timeout=SECONDS)

    def options(self) -> Any:
        return self._ask("GetDevicePluginOptions", messages.Empty(), messages.Options)

    def allocate(self, *containers: list[str]) -> Any:
        requests = [messages.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
        return self._ask("Allocate", messages.AllocateRequest(container_requests=requests), messages.AllocateResponse)

    def _ask(self, method: str, request: Any, reply: Any) -> Any:
        call = self._channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return call(request, timeout=SECONDS)

    def close(self) -> None:
        self._channel.close()
