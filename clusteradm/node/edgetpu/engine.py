"""Engine: a model on one Edge TPU, or on the CPU, by a TensorFlow Lite runtime, or pycoral where the table has it."""

import contextlib
import hashlib
import importlib
import os
import time
from typing import Any, List, Optional, Sequence

import numpy as np

from clusteradm.node import usb
from clusteradm.node.edgetpu import library as libedgetpu
from clusteradm.node.edgetpu import operators, tflite
from clusteradm.node.edgetpu.library import DeviceError, Library, TpuError, Turn, device_option
from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.state import model_copy

# Not `pycoral`: another project on PyPI has that name and no pycoral.utils.
_PYCORAL = "pycoral.utils.edgetpu"
_TURN_SECONDS = 30.0  # for other processes to open theirs; one that hangs has no turn for ever
_OPEN_SECONDS = 5.0  # for the rank of an earlier attempt to close the TPU
_MOST_TEXT = 300  # characters of an error


def device_path(pci_address: str, root: str = "/") -> str:
    """The TPU at this address, as libedgetpu lists it: /dev/apex_N of a PCI address, whose numbers may change at every
    boot; the folder in sysfs of usb:PORT. Raises TpuError."""
    if pci_address.startswith(USB):
        return _usb_path(pci_address, root)
    folder = os.path.join(root, "sys/class/apex")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        try:
            with open(os.path.join(folder, name, "pci_address")) as file:
                if name.startswith("apex_") and file.read().strip() == pci_address:
                    return "/dev/" + name
        except OSError:
            continue
    raise DeviceError(
        "no Edge TPU with the PCI address %s (of %d here): see clusteradm health" % (pci_address, len(names))
    )


def _usb_path(address: str, root: str) -> str:
    there = usb.accelerators(root)
    for each in there:
        if each.address == address:
            return each.path
    has = ", ".join(each.address for each in there) or "none"
    raise DeviceError("no USB Accelerator at %s (of %s here): see clusteradm health" % (address, has))


class InferenceError(Exception):
    """The model fails on one input, and on others not; the text is the runtime's."""


class Engine:
    """A loaded model, whose answer to an input does not depend on the inputs before. For one thread at a time."""

    def __init__(self, model: bytes, pci_address: Optional[str], threads: int = 1) -> None:
        """Load `model` onto the TPU at that address (PCI, or usb:PORT); onto so many threads of the CPU where None.

        Raises TpuError.
        """
        self.path: Optional[str] = None
        self._threads = threads
        self._model = model
        self._option, self._address = "", pci_address or ""
        # What resetting the interpreter's variables leaves as it was: then each input gets an interpreter of its own.
        self._anew = bool(operators.numbers(model) & operators.KEEP_STATE)
        self._known: Optional[Sequence[Any]] = None  # tensors on which the model has not failed
        self._rows = 1  # of the inputs, in a model that leaves that open
        if pci_address is None:
            self.version = "CPU"
        else:
            library = Library()
            self.version = library.version()
            self.path = device_path(pci_address)
        started = time.perf_counter()
        self._load()
        self.load_seconds = time.perf_counter() - started
        self.inputs = self._interpreter.get_input_details()
        self.input = self.inputs[0]
        self.outputs = self._interpreter.get_output_details()

    @property
    def takes_rows(self) -> bool:
        """Whether the first dimension of all inputs and outputs, and no other, is open: rows, as many as one likes."""
        shapes = [list(each.get("shape_signature", each["shape"])) for each in (*self.inputs, *self.outputs)]
        return self.path is None and all(len(each) > 1 and each[0] == -1 and min(each[1:]) > 0 for each in shapes)

    def invoke(self, *tensors: Any) -> List[Any]:
        """One inference. `tensors`: one for each input, of its shape and dtype; returns copies of the outputs. Where
        the model takes rows, so many as the tensors have.

        Raises InferenceError where the model fails on these tensors, TpuError where it then fails on any.
        """
        try:
            return self._run(tensors)
        except (RuntimeError, ValueError) as error:
            text = _one_line(error)
        # The runtime appends each of its errors to the one before, so that an interpreter that has failed is not kept.
        self._load()
        if self._known is not None:
            try:
                self._run(self._known)
            except (RuntimeError, ValueError):
                raise TpuError("inference fails: %s" % text) from None
        raise InferenceError(text)

    def warm_up(self) -> float:
        """Run two inferences, and return the seconds of the second: the first, which copies the parameters to the
        chip, is several times slower. Raises TpuError where an Edge TPU fails on whatever it is tried with."""
        text = ""
        for value in (0, 1, None):
            tensors = [_filled(each, value) for each in self.inputs]
            try:
                before = self._run(tensors)
                started = time.perf_counter()
                after = self._run(tensors)
            except (RuntimeError, ValueError, TypeError) as error:
                text = text or _one_line(error)
                self._load()
                continue
            self._known = tensors
            seconds = time.perf_counter() - started
            if not all(map(_same, before, after)):
                # State of an operator's own, unless a new interpreter differs too: then the model draws lots.
                self._anew = True
                self._anew = all(map(_same, self._run(tensors), self._run(tensors)))
            return seconds
        if self.path is not None:
            raise TpuError("inference fails: %s" % text)
        return 0.0

    def skip_warm_up(self) -> None:
        """Go on without: whether operators keep a state of their own is not known then, so each inference has a new
        interpreter."""
        self._anew = True

    def _run(self, tensors: Sequence[Any]) -> List[Any]:
        if self._anew:
            self._load()
        else:
            # The variables of recurrent layers: the interpreter keeps them from one inference to the next.
            try:
                self._interpreter.reset_all_variables()
            except RuntimeError:  # they are in a delegate's part of the graph
                self._anew = True
                self._load()
        if len(tensors[0].shape) and tensors[0].shape[0] != self._rows and self.takes_rows:
            self._resize(tensors[0].shape[0])
        for details, tensor in zip(self.inputs, tensors):
            self._interpreter.set_tensor(details["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"]) for output in self.outputs]

    def _resize(self, rows: int) -> None:
        for details in self.inputs:
            self._interpreter.resize_tensor_input(details["index"], [rows, *(int(n) for n in details["shape"][1:])])
        self._interpreter.allocate_tensors()
        self._rows = rows

    def _load(self) -> None:
        """Make a new interpreter. Raises TpuError."""
        self._rows = 1
        self._interpreter: Any = None  # the one before closes its TPU first
        if self.path is None:
            runtime = tflite.interpreter_module(*tflite.FOR_CPU)
            self._interpreter = runtime.Interpreter(model_content=self._model, num_threads=self._threads)
        else:
            with Turn(self.path, _TURN_SECONDS):
                # The first use of one on USB may move it, and that of another changes the order of libedgetpu's list.
                if not self._option or self._address.startswith(USB):
                    self.path = device_path(self._address)
                    self._option = device_option(self.path, Library().devices())
                self._interpreter = _open_on_tpu(self._model, self.path, self._option)
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise TpuError("the model cannot be loaded: %s" % _one_line(error)) from None


def _filled(details: Any, value: Optional[int]) -> Any:
    """A tensor for an input, every number of which is `value`, or for None its zero point; or the nearest that its type
    has: NumPy 2 refuses others, and earlier ones make them another number."""
    kind = np.dtype(details["dtype"])
    if value is None:
        value = int(details["quantization"][1])
    if kind.kind in "iuf":
        limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
        value = min(max(value, int(limits.min)), int(limits.max))
    return np.full(details["shape"], value, kind)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MOST_TEXT]


def _same(one: Any, other: Any) -> bool:
    """Whether two outputs are equal, bit by bit: NaN is equal to itself."""
    if one.dtype == object or other.dtype == object:
        return bool(one.tolist() == other.tolist())
    return bool(one.tobytes() == other.tobytes())


def read_model(path: str, sha256: str) -> bytes:
    """The model file's bytes: of this host's own copy, or where there is none, or not as it was deployed, of the share.

    Raises TpuError if they are not the ones that were deployed.
    """
    with contextlib.suppress(OSError):
        with open(model_copy(sha256), "rb") as file:
            model = file.read()
        if hashlib.sha256(model).hexdigest() == sha256:
            return model
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
            _check_model(model)
            if time.monotonic() > end:
                raise DeviceError(_refused(path, error)) from None
            time.sleep(0.5)


def _check_model(model: bytes) -> None:
    """Raise TpuError for bytes that are no model: the runtime has the same error for a TPU that does not open."""
    runtime = tflite.interpreter_module(*tflite.FOR_TPU)
    try:
        runtime.Interpreter(model_content=model)
    except ValueError as error:
        raise TpuError("the model cannot be loaded: %s" % _one_line(error)) from None


def preload() -> None:
    """Import the runtime that a rank of this host is likely to need. What fails here will say so where it is needed."""
    on_tpu = os.path.isdir("/sys/class/apex") or bool(usb.accelerators())
    with contextlib.suppress(Exception):
        if on_tpu and tflite.HAS_PYCORAL:
            importlib.import_module(_PYCORAL)
    with contextlib.suppress(Exception):
        tflite.interpreter_module(*(tflite.FOR_TPU if on_tpu else tflite.FOR_CPU))


def _on_tpu(model: bytes, option: str) -> Any:
    if tflite.HAS_PYCORAL:
        try:
            pycoral = importlib.import_module(_PYCORAL)
        except ImportError:
            pass
        else:
            return pycoral.make_interpreter(model, device=option)
    runtime = tflite.interpreter_module(*tflite.FOR_TPU)
    delegate = runtime.load_delegate(libedgetpu.NAME, {"device": option})
    return runtime.Interpreter(model_content=model, experimental_delegates=[delegate])


def _refused(path: str, error: Exception) -> str:
    """Reason why the TPU did not open, as far as it shows from outside: libedgetpu has one error for everything."""
    if path.startswith("/%s/" % usb.DEVICES):
        path = usb.device_node("/", os.path.basename(path)) or path
    if not os.path.exists(path):
        return "%s is in sysfs but has no device node: run clusteradm health" % path
    if not os.access(path, os.R_OK | os.W_OK):
        return "no permission to open %s: its group is to be apex, and the cluster user in it" % path
    return "%s did not open (%s): another process owns it, or it hangs: run clusteradm health" % (
        path,
        " ".join(str(error).split()),
    )
