"""The device plugin, as a kubelet sees it over its Unix socket."""

from __future__ import annotations

import dataclasses
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from kubelet import SECONDS, Kubelet

from clusteradm.errors import ClusteradmError
from clusteradm.kubernetes import plugin as plugin_module
from clusteradm.kubernetes.devices import Device
from clusteradm.kubernetes.plugin import Plugin

A = Device("0000:01:00.0", "/dev/apex_0", "", 1)
B = Device("0000:02:00.0", "/dev/apex_1", "")


class Machine:
    """A plugin that runs, of a machine with these devices."""

    def __init__(self, folder: Path, *devices: Device) -> None:
        self.devices = devices
        self.broken = ""
        self.said: queue.Queue[str] = queue.Queue()
        self.error: ClusteradmError | None = None
        self._stop = threading.Event()
        self._plugin = Plugin(self._look, folder, "coral.ai/edgetpu", self.said.put, 0.1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _look(self) -> tuple[Device, ...]:
        if self.broken:
            raise ClusteradmError(self.broken)
        return self.devices

    def _run(self) -> None:
        try:
            self._plugin.run(self._stop)
        except ClusteradmError as error:
            self.error = error

    def hears(self, text: str) -> None:
        while text not in self.said.get(timeout=SECONDS):
            pass

    def ended(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        self.ended()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path, A, B)
    yield found
    found.close()


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    found = Kubelet(tmp_path)
    yield found
    found.close()


def test_it_registers_and_lists_its_devices(kubelet: Kubelet, machine: Machine) -> None:
    plugin = kubelet.plugin()
    assert (plugin.request.version, plugin.request.resource_name) == ("v1beta1", "coral.ai/edgetpu")
    devices = plugin.devices()
    assert {name: device.health for name, device in devices.items()} == {A.id: "Healthy", B.id: "Healthy"}
    assert [node.ID for node in devices[A.id].topology.nodes] == [1] and not devices[B.id].HasField("topology")
    assert not plugin.options().pre_start_required
    plugin.close()


def test_a_tpu_that_fails_and_comes_back_is_told(kubelet: Kubelet, machine: Machine) -> None:
    plugin = kubelet.plugin()
    plugin.devices()
    machine.devices = (A, dataclasses.replace(B, reason="WEDGED: it reads -89.7 °C"))
    assert {name: device.health for name, device in plugin.devices().items()} == {A.id: "Healthy", B.id: "Unhealthy"}
    machine.hears(f"{B.id}: WEDGED: it reads -89.7 °C")
    machine.devices = (A, B)
    assert plugin.devices()[B.id].health == "Healthy"
    machine.devices = (A,)
    assert list(plugin.devices()) == [A.id]
    machine.hears(f"{B.id}: it is not there any more")
    plugin.close()


def test_a_look_that_fails_gives_none_out(kubelet: Kubelet, machine: Machine) -> None:
    plugin = kubelet.plugin()
    plugin.devices()
    machine.broken = "the Edge TPUs could not be looked at: it hung"
    assert {device.health for device in plugin.devices().values()} == {"Unhealthy"}
    machine.broken = ""
    assert {device.health for device in plugin.devices().values()} == {"Healthy"}
    plugin.close()


def test_containers_get_their_device_nodes(kubelet: Kubelet, machine: Machine) -> None:
    plugin = kubelet.plugin()
    one, both = plugin.allocate([B.id], [A.id, B.id]).container_responses
    assert dict(one.envs) == {"CLUSTERADM_TPUS": B.id}
    assert [(each.host_path, each.container_path, each.permissions) for each in one.devices] == [
        ("/dev/apex_1", "/dev/apex_1", "rw")
    ]
    assert [each.host_path for each in both.devices] == ["/dev/apex_0", "/dev/apex_1"]
    # A driver that was loaded anew numbers them in another order.
    machine.devices = (dataclasses.replace(A, path="/dev/apex_1"), dataclasses.replace(B, path="/dev/apex_0"))
    assert plugin.allocate([B.id]).container_responses[0].devices[0].host_path == "/dev/apex_0"
    plugin.close()


def test_what_cannot_be_given_out_is_refused_by_name(kubelet: Kubelet, machine: Machine) -> None:
    plugin = kubelet.plugin()
    with pytest.raises(grpc.RpcError) as unknown:
        plugin.allocate(["0000:09:00.0"])
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND and "0000:09:00.0" in unknown.value.details()
    machine.devices = (A, dataclasses.replace(B, reason="WEDGED: it hangs"))
    with pytest.raises(grpc.RpcError) as ill:
        plugin.allocate([A.id, B.id])
    assert ill.value.code() == grpc.StatusCode.FAILED_PRECONDITION and "WEDGED: it hangs" in ill.value.details()
    plugin.close()


def test_a_kubelet_that_starts_again_is_told_again(tmp_path: Path, kubelet: Kubelet, machine: Machine) -> None:
    kubelet.plugin().close()
    kubelet.close()
    again = Kubelet(tmp_path)
    plugin = again.plugin()
    assert len(plugin.devices()) == 2
    plugin.close()
    again.close()


def test_a_kubelet_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, A)
    machine.hears("waiting for the kubelet")
    kubelet = Kubelet(tmp_path)
    plugin = kubelet.plugin()
    assert list(plugin.devices()) == [A.id]
    plugin.close()
    machine.close()
    kubelet.close()
    assert not list(tmp_path.glob("clusteradm*"))


def test_a_kubelet_that_refuses_ends_it(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path, refuse="unsupported API version")
    machine = Machine(tmp_path, A)
    machine.ended()
    assert machine.error is not None and "unsupported API version" in str(machine.error)
    kubelet.close()


def test_a_place_that_it_cannot_have_is_said(tmp_path: Path) -> None:
    (tmp_path / "clusteradm-edgetpu.sock").mkdir()
    (tmp_path / "kubelet.sock").touch()
    machine = Machine(tmp_path, A)
    machine.ended()
    assert machine.error is not None and "cannot listen on" in str(machine.error) and "as root" in str(machine.error)


def test_a_kubelet_that_does_not_answer_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is left of one, for example; an answer of another kind would be news."""
    refusals = iter(["it does not answer: a", "it does not answer: a", "it does not answer: b"])
    stop = threading.Event()
    said: list[str] = []

    def register(plugin: Plugin) -> str:
        refusal = next(refusals, "")
        if not refusal:
            stop.set()
        return refusal

    monkeypatch.setattr(Plugin, "_register", register)
    monkeypatch.setattr(plugin_module, "_POLL_SECONDS", 0.01)
    (tmp_path / "kubelet.sock").touch()
    Plugin(lambda: (A,), tmp_path, "a.b/c", said.append, 0.1).run(stop)
    waited = [text for text in said if text.startswith("waiting for the kubelet: it does not answer")]
    assert [text[-1] for text in waited] == ["a", "b"]


def test_the_command_ends_by_a_signal(kubelet: Kubelet, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clusteradm", "device-plugin", "--folder", str(tmp_path), "--resource", "a.b/c"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        plugin = kubelet.plugin()
        assert plugin.request.resource_name == "a.b/c"
        plugin.close()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and "registered a.b/c with the kubelet" in said
