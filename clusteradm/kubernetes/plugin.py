"""Plugin: the kubelet's device plugin API (v1beta1), served on a Unix socket; and its registration with the kubelet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from clusteradm.errors import ClusteradmError
from clusteradm.kubernetes.devices import Device
from clusteradm.kubernetes.proto import deviceplugin_pb2 as messages

VERSION = "v1beta1"
ENDPOINT = "clusteradm-edgetpu.sock"
KUBELET = "kubelet.sock"
# In a container that has TPUs: their PCI addresses, joined by commas (clusteradm.node.serve reads it).
TPUS = "CLUSTERADM_TPUS"
_THREADS = 8  # the kubelet has one stream, and asks one thing at a time
_REGISTER_SECONDS = 5.0
_POLL_SECONDS = 1.0


class Plugin:
    """The service. `look`: the devices now; `folder`: the kubelet's, with its socket; `say`: gets what happens."""

    def __init__(
        self,
        look: Callable[[], tuple[Device, ...]],
        folder: Path,
        resource: str,
        say: Callable[[str], None],
        seconds: float,
    ) -> None:
        self._look, self._folder, self._resource, self._say, self._seconds = look, folder, resource, say, seconds
        self._changed = threading.Condition()
        self._devices: tuple[Device, ...] = ()
        self._number = 0  # of changes
        self._over = False
        self._awaited = ""  # why the kubelet is waited for

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`. Raises ClusteradmError where the kubelet refuses the plugin, or there is no socket."""
        try:
            while not stop.is_set():
                # Its inode changes with each start of the kubelet, which then knows no plugin.
                try:
                    kubelet = (self._folder / KUBELET).stat().st_ino
                except OSError as error:
                    self._wait(f"{self._folder / KUBELET}: {error.strerror}", stop)
                    continue
                self._serve(kubelet, stop)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _wait(self, reason: str, stop: threading.Event) -> None:
        """Wait a moment for the kubelet; say why, once."""
        if reason != self._awaited:
            self._say(f"waiting for the kubelet: {reason}")
        self._awaited = reason
        stop.wait(_POLL_SECONDS)

    def _serve(self, kubelet: int, stop: threading.Event) -> None:
        """Serve one life of the kubelet."""
        self._refresh()
        server = grpc.server(ThreadPoolExecutor(_THREADS), options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((self._handler(),))
        path = self._folder / ENDPOINT
        try:
            path.unlink(missing_ok=True)
            server.add_insecure_port(f"unix:{path}")
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ClusteradmError(
                f"cannot listen on {path}: {reason}", next_step="run it as root; --folder is the kubelet's own"
            ) from None
        server.start()
        mine = _inode(path)
        try:
            refusal = self._register()
            if refusal:
                self._wait(refusal, stop)
                return
            self._awaited = ""
            self._say(f"registered {self._resource} with the kubelet")
            looked = time.monotonic()
            # A kubelet that starts removes the sockets of its plugins.
            while _inode(self._folder / KUBELET) == kubelet and _inode(path) == mine:
                if stop.wait(_POLL_SECONDS):
                    return
                if time.monotonic() - looked >= self._seconds:
                    self._refresh()
                    looked = time.monotonic()
            self._say("the kubelet was started again")
        finally:
            with self._changed:
                self._number += 1  # ends the streams
                self._changed.notify_all()
            server.stop(0).wait()
            path.unlink(missing_ok=True)

    def _register(self) -> str:
        """Have the kubelet take the plugin; why it does not answer yet, "" where it does. Raises ClusteradmError."""
        request = messages.RegisterRequest(version=VERSION, endpoint=ENDPOINT, resource_name=self._resource)
        with grpc.insecure_channel(f"unix:{self._folder / KUBELET}") as channel:
            register = channel.unary_unary(
                f"/{VERSION}.Registration/Register",
                request_serializer=messages.RegisterRequest.SerializeToString,
                response_deserializer=messages.Empty.FromString,
            )
            try:
                register(request, timeout=_REGISTER_SECONDS)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    return f"it does not answer: {error.details()}"
                raise ClusteradmError(
                    f"the kubelet refuses the plugin: {error.details()}",
                    next_step=f"see that it takes plugins of {VERSION}, and that no other has {self._resource}",
                ) from None
        return ""

    def _refresh(self) -> tuple[Device, ...]:
        """Look at the devices; say and send what has changed. Where that fails, none may be given out."""
        try:
            found = self._look()
        except ClusteradmError as error:
            self._say(str(error))
            found = tuple(Device(each.id, each.path, f"UNKNOWN: {error.what}", each.numa) for each in self._devices)
        with self._changed:
            before = {each.id: each for each in self._devices}
            for each in found:
                if each.id not in before or before[each.id].reason != each.reason:
                    self._say(f"{each.id}: {each.reason or f'healthy, {each.path}'}")
            for gone in sorted(before.keys() - {each.id for each in found}):
                self._say(f"{gone}: it is not there any more")
            if found != self._devices:
                self._devices = found
                self._number += 1
                self._changed.notify_all()
        return found

    def _handler(self) -> Any:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers = {
            "GetDevicePluginOptions": unary(
                lambda request, context: messages.Options(),
                messages.Empty.FromString,
                messages.Options.SerializeToString,
            ),
            "ListAndWatch": stream(self._watch, messages.Empty.FromString, messages.Devices.SerializeToString),
            "Allocate": unary(
                self._allocate, messages.AllocateRequest.FromString, messages.AllocateResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(f"{VERSION}.DevicePlugin", handlers)

    def _watch(self, request: Any, context: Any) -> Iterator[Any]:
        """All devices, at once and whenever one of them changes."""
        sent = -1
        while context.is_active():
            with self._changed:
                if self._number == sent and not self._over:
                    self._changed.wait(_POLL_SECONDS)
                if self._over:
                    return
                if self._number == sent:
                    continue
                sent, devices = self._number, self._devices
            yield messages.Devices(devices=[_message(each) for each in devices])

    def _allocate(self, request: Any, context: Any) -> Any:
        """What the containers get: the device nodes, by the names that they have now."""
        found = {each.id: each for each in self._refresh()}
        answer = messages.AllocateResponse()
        for container in request.container_requests:
            chosen = []
            for name in container.devices_ids:
                device = found.get(name)
                if device is None:
                    context.abort(grpc.StatusCode.NOT_FOUND, f"there is no Edge TPU {name}")
                elif not device.healthy:
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Edge TPU {name}: {device.reason}")
                else:
                    chosen.append(device)
            answer.container_responses.append(_response(chosen))
        return answer


def _response(devices: list[Device]) -> Any:
    nodes = [messages.DeviceSpec(container_path=each.path, host_path=each.path, permissions="rw") for each in devices]
    return messages.ContainerAllocateResponse(envs={TPUS: ",".join(each.id for each in devices)}, devices=nodes)


def _message(device: Device) -> Any:
    topology = None
    if device.numa is not None:
        topology = messages.Topology(nodes=[messages.NumaNode(ID=device.numa)])
    return messages.Device(ID=device.id, health="Healthy" if device.healthy else "Unhealthy", topology=topology)


def _inode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return None
