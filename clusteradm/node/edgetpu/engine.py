"""A model on one Edge TPU, or on the CPU: through pycoral where the board has it, else a TensorFlow Lite runtime."""

import ctypes
import hashlib
import os
import sys
import time
from typing import Any, List, NamedTuple, Optional

import numpy as np

LIBRARY = "libedgetpu.so.1"
_OPEN_PATIENCE = 5.0  # seconds
_PCI = 0  # edgetpu_device_type EDGETPU_APEX_PCI (libedgetpu's tflite/public/edgetpu_c.h)


class TpuError(Exception):
    """The Edge TPU, the library or the model is not what the job needs; the text says which and why."""


class Tpu(NamedTuple):
    """One device as libedgetpu lists it; `path` is /dev/apex_N."""

    kind: str
    path: str


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]


class Library:
    """libedgetpu.so.1, by its C interface."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise TpuError("the Edge TPU library is not installed here: %s" % error) from None
        self._library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        self._library.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
        self._library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
        self._library.edgetpu_version.restype = ctypes.c_char_p

    def version(self) -> str:
        return (self._library.edgetpu_version() or b"").decode("utf-8", "replace")

    def devices(self) -> List[Tpu]:
        count = ctypes.c_size_t(0)
        found = self._library.edgetpu_list_devices(ctypes.byref(count))
        if not found:
            return []
        try:
            return [
                Tpu("pci" if found[n].type == _PCI else "usb", (found[n].path or b"").decode("utf-8", "replace"))
                for n in range(count.value)
            ]
        finally:
            self._library.edgetpu_free_devices(found)


def device_path(pci_address: str, root: str = "/") -> str:
    """The /dev/apex_N that now belongs to the TPU in this PCI slot: the numbers may change with every boot."""
    folder = os.path.join(root, "sys/class/apex")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        try:
            with open(os.path.join(folder, name, "pci_address")) as file:
                if name.startswith("apex_") and file.read().strip() == pci_address:
                    return "/dev/" + name
        except OSError:
            continue
    raise TpuError(
        "no Edge TPU with the PCI address %s (of %d here): has it fallen off the bus?" % (pci_address, len(names))
    )


def device_option(path: str, devices: List[Tpu]) -> str:
    """libedgetpu's name for /dev/apex_N: "pci:N" counts in the order of its list, not of the devices' numbers."""
    pci = [device.path for device in devices if device.kind == "pci"]
    if path in pci:
        return "pci:%d" % pci.index(path)
    if not pci:
        raise TpuError("libedgetpu sees no Edge TPU here, but sysfs shows %s" % path)
    raise TpuError("libedgetpu does not list %s, only %s" % (path, ", ".join(pci)))


class Engine:
    """One model, loaded. Not for more than one thread at a time."""

    def __init__(self, model: bytes, pci_address: Optional[str]) -> None:
        """Load `model` onto the TPU in that PCI slot; onto the CPU where `pci_address` is None. Raises TpuError."""
        self.path: Optional[str] = None
        if pci_address is None:
            self.version = "CPU"
            self._interpreter = _interpreter_class(prefer="ai_edge_litert")(
                model_content=model, num_threads=os.cpu_count() or 1
            )
        else:
            library = Library()
            self.version = library.version()
            self.path = device_path(pci_address)
            self._interpreter = _patiently_on_tpu(model, self.path, device_option(self.path, library.devices()))
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise TpuError("the model cannot be loaded: %s" % " ".join(str(error).split())) from None
        self.input = self._interpreter.get_input_details()[0]
        self.outputs = self._interpreter.get_output_details()

    def invoke(self, tensor: Any) -> List[Any]:
        """One inference. `tensor` has the input's shape and dtype; returns copies of the outputs."""
        self._interpreter.set_tensor(self.input["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"]) for output in self.outputs]

    def warm_up(self) -> None:
        """The first inference carries the parameters to the chip and is several times slower than those that follow."""
        zeros = np.zeros(self.input["shape"], self.input["dtype"])
        for _ in range(2):
            self.invoke(zeros)


def read_model(path: str, sha256: str) -> bytes:
    """The model file's bytes, if they are the ones that were deployed."""
    with open(path, "rb") as file:
        model = file.read()
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise TpuError("%s has sha256 %s here, not %s: deploy it again" % (path, found, sha256))
    return model


def _patiently_on_tpu(model: bytes, path: str, option: str) -> Any:
    """The rank of an earlier attempt may still be letting go of the TPU."""
    end = time.monotonic() + _OPEN_PATIENCE
    while True:
        try:
            return _on_tpu(model, option)
        except ValueError as error:
            if time.monotonic() > end:
                raise TpuError(_refused(path, error)) from None
            time.sleep(0.5)


def _on_tpu(model: bytes, option: str) -> Any:
    try:
        # Not `import pycoral`: another project on PyPI has that name and no pycoral.utils.
        from pycoral.utils import edgetpu
    except ImportError:
        pass
    else:
        return edgetpu.make_interpreter(model, device=option)
    interpreter_class = _interpreter_class(prefer="tflite_runtime")
    load = _module(interpreter_class).load_delegate
    return interpreter_class(model_content=model, experimental_delegates=[load(LIBRARY, {"device": option})])


def _interpreter_class(prefer: str) -> Any:
    """The runtime there is. On CPUs LiteRT is up to 20 times as fast; with a TPU the older one fits more libraries."""
    found = {}
    try:
        from tflite_runtime import interpreter as old

        found["tflite_runtime"] = old.Interpreter
    except ImportError:
        pass
    try:
        from ai_edge_litert import interpreter as new

        found["ai_edge_litert"] = new.Interpreter
    except ImportError:
        pass
    if not found:
        raise TpuError("this Python has no TensorFlow Lite runtime: run clusteradm bootstrap")
    return found.get(prefer) or next(iter(found.values()))


def _module(interpreter_class: Any) -> Any:
    return sys.modules[interpreter_class.__module__]


def _refused(path: str, error: Exception) -> str:
    """libedgetpu has one error for everything: say what can be told apart from outside."""
    if not os.path.exists(path):
        return "%s is in sysfs but has no device node: run clusteradm health" % path
    if not os.access(path, os.R_OK | os.W_OK):
        return "no permission to open %s: its group is to be apex, and the cluster user in it" % path
    return "%s did not open (%s): another process owns it, or it hangs: run clusteradm health" % (
        path,
        " ".join(str(error).split()),
    )
