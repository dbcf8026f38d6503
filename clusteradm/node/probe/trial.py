"""Try each Edge TPU that is free: load the delegate onto it and, where a model is deployed, run one inference.

Only ever in processes of their own with a time limit, as the cluster user: what crashes or hangs is an answer. Never as
root, whom the driver lets open a TPU that another process owns; never a TPU that is owned, or that sysfs calls ill.
"""

import json
import os
import signal
import time
from typing import Any, Dict, List, Optional, Sequence

from clusteradm.node import child
from clusteradm.node.account import as_user
from clusteradm.node.child import PYTHON
from clusteradm.node.probe.attempt import attempt, is_root
from clusteradm.node.probe.driver import kernel_log
from clusteradm.node.probe.programs import run_all
from clusteradm.node.probe.tpu import process
from clusteradm.node.probe.turn import turn
from clusteradm.node.texts import names, read

# The driver itself waits up to 12 s for a chip that does not wake, and then says so in the kernel's log.
_SECONDS = 15
# Before that the runtime is imported, which may take a busy board long, and says nothing of the TPU.
_IMPORT_SECONDS = 20
# A share whose server is gone hangs; then it is tried without a model.
_MODEL_SECONDS = 2.0
_LARGEST = 16 << 20
_WEDGED = -50000
_OUTPUT_QUEUE = "0x03"


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """{"attempts": PCI address -> how it went}, and where one failed "kernel_log": what the driver said to it.

    "attempts" is None where the cluster user is root.
    """
    if is_root(options["user"]):
        return {"attempts": None}
    tried = attempts(root, options["user"], PYTHON, options.get("shared"))
    if all(one["ok"] for one in tried.values()):
        return {"attempts": tried}
    return {"attempts": tried, "kernel_log": kernel_log(root, list(tried))}


def attempts(root: str, user: str, python: str, shared: Optional[str]) -> Dict[str, Dict[str, Any]]:
    """PCI address -> how the attempt on it went, for every TPU that is free.

    {"ok", "stage": how far it got, "seconds"}, and where known "error", "signal", "timeout", "count": devices that
    libedgetpu listed, "access": whether the node may be opened, "stderr": last lines, "owner": who had it by then,
    "inference": True, "interrupts": whether any came of it. Raises OSError where they could not even be started, which
    says nothing of the TPUs.
    """
    found = attempt(user, _MODEL_SECONDS, lambda: {"model": compiled_model(shared)}) if shared else {}
    with turn(root, _IMPORT_SECONDS) as mine:
        devices = free(root) if mine else []
        if not devices:
            return {}
        before = {device["name"]: interrupts(root, device["name"]) for device in devices}
        commands = [command(python, device["path"], found.get("model")) for device in devices]
        seconds = _IMPORT_SECONDS + _SECONDS
        ended_all = as_user(user, lambda: run_all(commands, seconds), seconds + 5)
        results = {}
        for device, ended in zip(devices, ended_all):
            result = outcome(ended)
            if result.get("inference"):
                result["interrupts"] = _rose(root, device["name"], before[device["name"]])
            if not result["ok"]:
                result["owner"] = process(root, read(root, "sys/class/apex", device["name"], "device_owner"), user)
            results[device["address"]] = result
        _released(root, [device["name"] for device in devices])
        return results


def free(root: str) -> List[Dict[str, str]]:
    """The TPUs that may be tried: nobody's, and in order as far as the driver's files tell."""
    found = []
    base = os.path.join(root, "sys/class/apex")
    for name in names(base):
        address = read(base, name, "pci_address")
        if not address or read(base, name, "is_device_owned") != "0" or read(base, name, "status") != "ALIVE":
            continue
        temperature = read(base, name, "temp")
        if temperature is not None and temperature.lstrip("-").isdigit() and int(temperature) <= _WEDGED:
            continue
        # Without interrupts an inference never ends.
        if read(base, name, "interrupt_counts") is not None:
            found.append({"name": name, "address": address, "path": os.path.join(root, "dev", name)})
    return found


def command(python: str, path: str, model: Optional[str]) -> List[str]:
    """The program that tries the TPU at this device node."""
    return child.command(python, "edgetpu.trial", path, model or "", str(_SECONDS))


def outcome(ended: Dict[str, Any]) -> Dict[str, Any]:
    """What one process's end and its words mean; the last word of each name counts."""
    result: Dict[str, Any] = {}
    for line in ended["out"].splitlines():
        try:
            result.update(json.loads(line))
        except ValueError:
            continue  # a library that writes to standard output
    status = ended["status"]
    result["ok"] = status == 0 and result.get("stage") == "done"
    result["seconds"] = ended["seconds"]
    if ended["timeout"] or status == -signal.SIGALRM:
        result["timeout"] = True
    elif status is not None and status < 0:
        result["signal"] = -status
    if not result["ok"]:
        result["stderr"] = ended["err"]
    return result


def compiled_model(shared: str) -> Optional[str]:
    """The smallest deployed model that is compiled for the Edge TPU; None if there is none."""
    sizes = []
    base = os.path.join(shared, "models")
    for name in names(base):
        for version in names(base, name):
            path = os.path.join(base, name, version, "model.tflite")
            try:
                sizes.append((os.stat(path).st_size, path))
            except OSError:
                continue
    for size, path in sorted(sizes):
        if size > _LARGEST:
            break
        with open(path, "rb") as file:
            if b"edgetpu-custom-op" in file.read():
                return path
    return None


def interrupts(root: str, name: str) -> Optional[int]:
    """How many inferences' ends the driver was told of by interrupt; None where it counts none."""
    for line in (read(root, "sys/class/apex", name, "interrupt_counts") or "").splitlines():
        number, _, count = line.partition(":")
        if number == _OUTPUT_QUEUE and count.strip().isdigit():
            return int(count)
    return None


def _rose(root: str, name: str, before: Optional[int]) -> Optional[bool]:
    if before is None:
        return None
    end = time.monotonic() + 1
    while time.monotonic() < end:
        now = interrupts(root, name)
        if now is None or now > before:
            return None if now is None else True
        time.sleep(0.05)
    return False


def _released(root: str, devices: Sequence[str]) -> None:
    """Wait until the driver has let go of what was tried: closing resets the chip."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if not any(read(root, "sys/class/apex", name, "is_device_owned") == "1" for name in devices):
            return
        time.sleep(0.02)
