"""libedgetpu.so.1 by its C interface (tflite/public/edgetpu_c.h): version, devices, verbosity. No TPU is opened.

Imports next to nothing but ctypes: a probe's child pays for what it imports on a board.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import List

NAME = "libedgetpu.so.1"
_PCI = 0  # edgetpu_device_type EDGETPU_APEX_PCI
_POLL_SECONDS = 0.02
LOUD = 10  # verbosity at which the library logs each step of opening a device


class TpuError(Exception):
    """The Edge TPU, the library or the model is not what is needed; the text says which and why."""


class DeviceError(TpuError):
    """The Edge TPU itself does not open, whatever the model."""


class LibraryMissing(DeviceError):
    """libedgetpu cannot be loaded. `reason`: the dynamic linker's."""

    def __init__(self, reason: str) -> None:
        DeviceError.__init__(self, "the Edge TPU library is not installed here: %s" % reason)
        self.reason = reason


class Device:
    """A device as libedgetpu lists it: `kind` is "pci" or "usb", `path` is /dev/apex_N for "pci", the
    device's folder in sysfs for "usb"."""

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.path = path


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]


class Library:
    """The loaded library. Raises LibraryMissing."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(NAME)
        except OSError as error:
            raise LibraryMissing(str(error)) from None
        self._library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        self._library.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]

    @property
    def is_padded(self) -> bool:
        """Whether it is a shim that pads what the library behind it hands over (playbooks/shim.yml)."""
        return hasattr(self._library, "clusteradm_shim")

    def version(self) -> str:
        """As the library spells it: "BuildLabel(...), RuntimeVersion(14)"."""
        self._library.edgetpu_version.restype = ctypes.c_char_p
        return (self._library.edgetpu_version() or b"").decode("utf-8", "replace")

    def devices(self) -> List[Device]:
        """The devices, in the library's order. It reads sysfs and the USB bus only."""
        count = ctypes.c_size_t(0)
        found = self._library.edgetpu_list_devices(ctypes.byref(count))
        if not found:
            return []
        self._library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
        try:
            return [
                Device("pci" if found[n].type == _PCI else "usb", (found[n].path or b"").decode("utf-8", "replace"))
                for n in range(count.value)
            ]
        finally:
            self._library.edgetpu_free_devices(found)

    def set_verbosity(self, level: int) -> None:
        """Set how much the library logs to standard error: 0 (nothing) to LOUD."""
        self._library.edgetpu_verbosity(level)


class Turn:
    """The turn to open a USB Accelerator, from the look at the list until it is open. A context manager.

    The first use of one uploads its firmware, and every use resets it (libedgetpu, driver/usb/usb_driver.cc): it is not
    in the list meanwhile, and "usb:N" is another device to whoever has counted before. So the processes of a host take
    turns. They need no more for that than a file that all may read: the devices' folder in sysfs. PCI needs no turns.

    `mine`: False where another process has had it for longer than `seconds`.
    """

    def __init__(self, path: str, seconds: float) -> None:
        self._folder = "" if _is_pci(path) else os.path.dirname(path)
        self._seconds = seconds
        self._fd = -1
        self.mine = True

    def __enter__(self) -> Turn:
        if self._folder:
            try:
                self._fd = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return self  # there is no bus: whoever opens the device says so
            self.mine = self._wait(time.monotonic() + self._seconds)
        return self

    def _wait(self, end: float) -> bool:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= end:
                    return False
                time.sleep(_POLL_SECONDS)

    def __exit__(self, *about: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _is_pci(path: str) -> bool:
    return os.path.basename(path).startswith("apex_")


def device_option(path: str, devices: List[Device]) -> str:
    """libedgetpu's name for a device: "pci:N", "usb:N" count in the order of its list, not of the devices' numbers."""
    kind = "pci" if _is_pci(path) else "usb"
    listed = [device.path for device in devices if device.kind == kind]
    if path in listed:
        return "%s:%d" % (kind, listed.index(path))
    if not listed:
        raise DeviceError("libedgetpu sees no Edge TPU here, but sysfs shows %s" % path)
    raise DeviceError("libedgetpu does not list %s, only %s" % (path, ", ".join(listed)))
