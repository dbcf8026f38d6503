"""Section "trial": each free Edge TPU is tried: the delegate is loaded, and the program's own model run once.

Only in child processes with a time limit (edgetpu/trial.py), as the cluster user: a crash or a hang is a result. Never
as root, whom the driver lets open a TPU that another process owns; never a TPU that is owned or that sysfs shows as
faulty.
"""

import json
import os
import signal
import time
from typing import Any, Dict, List, Optional, Sequence

from clusteradm.node import child
from clusteradm.node.account import as_user
from clusteradm.node.child import PYTHON
from clusteradm.node.probe import usb
from clusteradm.node.probe.attempt import is_root
from clusteradm.node.probe.kernel_log import kernel_log
from clusteradm.node.probe.lock import tpu_lock
from clusteradm.node.probe.programs import run_all
from clusteradm.node.probe.tpu import process
from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.texts import names, read
from clusteradm.node.usb import DEVICES

# The driver waits up to 12 s for a chip that does not wake, and then logs that.
_SECONDS = 15
# For the import of the runtime before that, which may take long on a busy board, and for those whose turn is before:
# neither says anything about the TPU.
_IMPORT_SECONDS = 20
# A library that stands for another device than the Edge TPU brings the trial's model, compiled for that device
# (lab/tpu_package.py).
_OF_LIBRARY = "usr/share/libedgetpu1-std/trial_edgetpu.tflite"
_WEDGED = -50000
_OUTPUT_QUEUE = "0x03"


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """{"attempts": see attempts(), None if nothing could be tried}; if one failed, "kernel_log": lines about them."""
    if is_root(options["user"]):
        return {"attempts": None}
    tried = attempts(root, options["user"], PYTHON)
    if tried is None:
        return {"attempts": None}
    if all(one["ok"] for one in tried.values()):
        return {"attempts": tried}
    return {"attempts": tried, "kernel_log": kernel_log(root)}


def attempts(root: str, user: str, python: str) -> Optional[Dict[str, Dict[str, Any]]]:
    """Address -> result of the trial, for each free TPU; None while another probe tries them.

    {"ok", "stage": the last one begun, "seconds"}, and if known "error", "signal", "timeout", "count": devices that
    libedgetpu lists, "access": whether the user may open the node, "stderr": last lines, "owner": the process that had
    it by then, "inference": True, "interrupts": whether the inference raised any. A USB Accelerator whose turn has not
    come is left out. Raises OSError if the trials could not be started, which says nothing about the TPUs.
    """
    of_library = os.path.join(root, _OF_LIBRARY)
    model = of_library if os.path.exists(of_library) else None
    with tpu_lock(root, _IMPORT_SECONDS) as acquired:
        if not acquired:
            return None
        devices = free(root)
        if not devices:
            return {}
        before = {device["name"]: interrupts(root, device["name"]) for device in devices}
        commands = [command(python, device, model) for device in devices]
        seconds = _IMPORT_SECONDS + _SECONDS
        ended_all = as_user(user, lambda: run_all(commands, seconds), seconds + 5)
        results = {}
        for device, ended in zip(devices, ended_all):
            result = outcome(ended)
            if result.get("stage") == "turn":
                continue
            if result.get("inference"):
                result["interrupts"] = _interrupts_rose(root, device["name"], before[device["name"]])
            if not result["ok"]:
                result["owner"] = process(root, _owner(root, device), user)
            results[device["address"]] = result
        _wait_until_closed(root, [device["name"] for device in devices])
        return results


def free(root: str) -> List[Dict[str, str]]:
    """The TPUs to try: without an owner, and not faulty by the kernel's files. Each: its `address`, `name` in sysfs,
    `path` as libedgetpu lists it, device `node`."""
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
            path = os.path.join(root, "dev", name)
            found.append({"name": name, "address": address, "path": path, "node": path})
    for about in usb.accelerators(root):
        if about["path"] and about["configuration"] and not about["holders"]:
            path = "/%s/%s" % (DEVICES, about["name"])
            found.append({"name": about["name"], "address": about["address"], "path": path, "node": about["path"]})
    return found


def command(python: str, device: Dict[str, str], model: Optional[str]) -> List[str]:
    """The command that tries a TPU of free()."""
    limits = (str(_SECONDS), str(_IMPORT_SECONDS))
    return child.command(python, "edgetpu.trial", device["path"], device["node"], model or "", *limits)


def _owner(root: str, device: Dict[str, str]) -> Optional[str]:
    """The process that has a TPU of free() by now."""
    if device["address"].startswith(USB):
        return next(
            (pid for each in usb.accelerators(root) if each["address"] == device["address"] for pid in each["holders"]),
            None,
        )
    return read(root, "sys/class/apex", device["name"], "device_owner")


def outcome(ended: Dict[str, Any]) -> Dict[str, Any]:
    """Result of one trial from the end of its process and its JSON lines, the later over the earlier."""
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


def interrupts(root: str, name: str) -> Optional[int]:
    """Number of interrupts for the end of an inference; None if the driver does not count them."""
    for line in (read(root, "sys/class/apex", name, "interrupt_counts") or "").splitlines():
        number, _, count = line.partition(":")
        if number == _OUTPUT_QUEUE and count.strip().isdigit():
            return int(count)
    return None


def _interrupts_rose(root: str, name: str, before: Optional[int]) -> Optional[bool]:
    if before is None:
        return None
    end = time.monotonic() + 1
    while time.monotonic() < end:
        now = interrupts(root, name)
        if now is None or now > before:
            return None if now is None else True
        time.sleep(0.05)
    return False


def _wait_until_closed(root: str, devices: Sequence[str]) -> None:
    """Wait until the driver has closed the devices: closing resets the chip."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if not any(read(root, "sys/class/apex", name, "is_device_owned") == "1" for name in devices):
            return
        time.sleep(0.02)
