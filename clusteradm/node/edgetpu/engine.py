"""Engine: a model on one Edge TPU, or on the CPU, by pycoral if it is installed, else by a TensorFlow Lite runtime."""

import hashlib
import os
import time
from typing import Any, List, Optional

import numpy as np

from clusteradm.node.edgetpu import library as libedgetpu
from clusteradm.node.edgetpu import tflite
from clusteradm.node.edgetpu.library import Library, TpuError, device_option

_OPEN_SECONDS = 5.0  # for the rank of an earlier attempt to close the TPU


def device_path(pci_address: str, root: str = "/") -> str:
    """The /dev/apex_N of the TPU in this PCI slot: the numbers may change at every boot. Raises TpuError."""
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
        "no Edge TPU with the PCI address %s (of %d here): see clusteradm health" % (pci_address, len(names))
    )


class Engine:
    """A loaded model. For one thread at a time."""

    def __init__(self, model: bytes, pci_address: Optional[str]) -> None:
        """Load `model` onto the TPU in that PCI slot; onto the CPU where `pci_address` is None. Raises TpuError."""
        self.path: Optional[str] = None
        if pci_address is None:
            self.version = "CPU"
            runtime = tflite.interpreter_module(*tflite.FOR_CPU)
            self._interpreter = runtime.Interpreter(model_content=model, num_threads=os.cpu_count() or 1)
        else:
            library = Library()
            self.version = library.version()
            self.path = device_path(pci_address)
            self._interpreter = _open_on_tpu(model, self.path, device_option(self.path, library.devices()))
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
        """Run two inferences: the first copies the parameters to the chip and is several times slower."""
        zeros = np.zeros(self.input["shape"], self.input["dtype"])
        for _ in range(2):
            self.invoke(zeros)


def read_model(path: str, sha256: str) -> bytes:
    """The model file's bytes. Raises TpuError if they are not the ones that were deployed."""
    with open(path, "rb") as file:
        model = file.read()
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise TpuError("%s has sha256 %s here, not %s: deploy it again" % (path, found, sha256))
    return model


def _open_on_tpu(model: bytes, path: str, option: str) -> Any:
    """The interpreter on the TPU; tried again for a while, as the rank of an earlier attempt may not have closed it."""
    end = time.monotonic() + _OPEN_SECONDS
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
    runtime = tflite.interpreter_module(*tflite.FOR_TPU)
    delegate = runtime.load_delegate(libedgetpu.NAME, {"device": option})
    return runtime.Interpreter(model_content=model, experimental_delegates=[delegate])


def _refused(path: str, error: Exception) -> str:
    """Reason why the TPU did not open, as far as it shows from outside: libedgetpu has one error for everything."""
    if not os.path.exists(path):
        return "%s is in sysfs but has no device node: run clusteradm health" % path
    if not os.access(path, os.R_OK | os.W_OK):
        return "no permission to open %s: its group is to be apex, and the cluster user in it" % path
    return "%s did not open (%s): another process owns it, or it hangs: run clusteradm health" % (
        path,
        " ".join(str(error).split()),
    )
