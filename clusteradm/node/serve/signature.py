"""Signature of a loaded version: a client's tensors to the model's, and back."""

import base64
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu.tasks import NoReading, Reader
from clusteradm.node.edgetpu.tasks.reader import TOP
from clusteradm.node.edgetpu.tensors import BadInput, Fed, Preprocessor
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import BYTES, DATATYPES, INTERNAL, INVALID, Refusal, Request, Tensor, TensorInfo
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire import manifest
from clusteradm.node.spec.wire.job import InputForm

KSERVE = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_TOP = 100  # classes of a classifier's result that a request may ask for


class Signature:
    """Tensors of one version as clients see them. No front knows the engine's own forms."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.inputs = [_info(each, loaded.batches > 1) for each in loaded.inputs]
        self.outputs = [_info(each, loaded.batches > 1) for each in loaded.outputs]
        self._readers: Dict[int, Optional[Reader]] = {}
        self._picture: Optional[Preprocessor] = None
        if len(loaded.inputs) == 1 and _takes_pictures(loaded):
            reader = self._reader(TOP)
            fit = {} if reader is None else {"fit": reader.fit}
            self._picture = Preprocessor(_details(loaded.inputs[0]), loaded.feed, **fit)

    @property
    def picture(self) -> bool:
        """Whether an encoded picture is taken for the only input."""
        return self._picture is not None

    @property
    def rows(self) -> bool:
        """Whether every input and output has a first dimension that counts instances."""
        return all(each.shape and each.shape[0] in (1, -1) for each in (*self.inputs, *self.outputs))

    def encoded(self, request: Request) -> Optional[List[bytes]]:
        """The pictures of a request that has such, one a row; None for one of numbers. Raises Refusal."""
        if not any(each.datatype == BYTES for each in request.inputs):
            return None
        if self._picture is None:
            raise Refusal(INVALID, "%s takes numbers, not BYTES: %s" % (self._who(), self._takes()))
        if len(request.inputs) != 1:
            raise Refusal(INVALID, "%s has one input, not %d" % (self._who(), len(request.inputs)))
        tensor = request.inputs[0]
        self._check_name(tensor.name)
        if len(tensor.data) < 1 or (not request.rows and len(tensor.data) != 1):
            raise Refusal(INVALID, "%d pictures in a request; %s takes one" % (len(tensor.data), self._who()))
        return list(tensor.data)

    def decoded(self, data: bytes) -> Fed:
        """The tensor of one picture, and the picture's size. Raises Refusal. Takes milliseconds."""
        if self._picture is None:
            raise Refusal(INVALID, "%s takes no pictures" % self._who())
        try:
            return self._picture.feed(data, None)
        except BadInput as error:
            raise Refusal(INVALID, "%s" % error) from None

    def arrays(self, request: Request) -> List[Any]:
        """The arrays of a request of numbers, in the model's order of inputs. Raises Refusal."""
        given = {each.name: each for each in request.inputs}
        if len(given) != len(request.inputs):
            raise Refusal(INVALID, "an input is given twice")
        for name in given:
            self._check_name(name)
        missing = [each.name for each in self.inputs if each.name not in given]
        if missing:
            raise Refusal(INVALID, "%s needs the input %s, which is not given" % (self._who(), ", ".join(missing)))
        arrays = [self._array(info, given[info.name], request.rows) for info in self.inputs]
        if (request.rows or self.loaded.batches > 1) and len({len(each) for each in arrays}) > 1:
            raise Refusal(INVALID, "the inputs have different numbers of instances")
        return arrays

    def _array(self, info: TensorInfo, tensor: Tensor, rows: bool) -> Any:
        if tensor.datatype != info.datatype:
            text = "input %s of %s is %s, not %s" % (info.name, self._who(), info.datatype, tensor.datatype)
            raise Refusal(INVALID, text)
        shape = self._check_shape(info, tensor, rows)
        try:
            return np.ascontiguousarray(tensor.data, DATATYPES[info.datatype]).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise Refusal(INVALID, "input %s: %s" % (info.name, " ".join(str(error).split())[:300])) from None

    def _check_shape(self, info: TensorInfo, tensor: Tensor, rows: bool) -> Tuple[int, ...]:
        """The shape of a request's tensor. Raises Refusal."""
        shape = tuple(tensor.shape)
        wanted = (-1, *info.shape[1:]) if rows and self.rows else info.shape
        fits = len(shape) == len(wanted) and all(want in (-1, size) for want, size in zip(wanted, shape))
        if not fits or (wanted[:1] == (-1,) and shape[0] < 1):
            text = "input %s of %s has the shape %s, not %s"
            raise Refusal(INVALID, text % (info.name, self._who(), list(wanted), list(shape)))
        return shape

    def tensors(self, outputs: Sequence[Any], wanted: Sequence[str]) -> List[Tensor]:
        """The outputs that are wanted, all where none is named, in the order of the wish. Raises Refusal."""
        found = {info.name: (info, output) for info, output in zip(self.outputs, outputs)}
        self.check_outputs(wanted)
        return [
            Tensor(name, found[name][0].datatype, tuple(int(n) for n in found[name][1].shape), found[name][1])
            for name in (wanted or found)
        ]

    def check_outputs(self, wanted: Sequence[str]) -> None:
        """Raise Refusal for an output that the model does not have: before it runs."""
        names = [each.name for each in self.outputs]
        for name in wanted:
            if name not in names:
                text = "%s has no output %s, only %s" % (self._who(), name[:100], ", ".join(names))
                raise Refusal(INVALID, text)

    def result(
        self, outputs: Sequence[Any], size: Optional[Tuple[int, int]], parameters: Dict[str, Any]
    ) -> Optional[Dict[str, Any]]:
        """The result of the model's task; None where it has none that is known. `size`: width and height of the picture
        that was given; `parameters`: "top", how many classes. Raises Refusal.
        """
        most = parameters.get("top", TOP)
        if type(most) is not int or not 1 <= most <= _MOST_TOP:
            raise Refusal(INVALID, "top is the number of classes, from 1 to %d" % _MOST_TOP)
        reader = self._reader(most)
        if reader is None or reader.task == manifest.RAW:
            return None
        try:
            return reader.result(outputs, size, _kept)
        except (ValueError, TypeError, OverflowError) as error:
            text = "the outputs of %s make no result: %s"
            raise Refusal(INTERNAL, text % (self._who(), " ".join(str(error).split())[:300])) from None

    def _reader(self, top: int) -> Optional[Reader]:
        """The reader of the outputs; None where they are not those of the model's task."""
        if top not in self._readers:
            loaded, outputs = self.loaded, [_details(each) for each in self.loaded.outputs]
            try:
                self._readers[top] = Reader(
                    outputs,
                    _details(loaded.inputs[0]),
                    loaded.task,
                    threshold=loaded.threshold,
                    top=top,
                    labels=loaded.class_names,
                    feed=loaded.feed,
                )
            except NoReading:
                self._readers[top] = None
        return self._readers[top]

    def _check_name(self, name: str) -> None:
        if all(each.name != name for each in self.inputs):
            raise Refusal(INVALID, "%s has no input %s: %s" % (self._who(), name[:100], self._takes()))

    def _who(self) -> str:
        return "model %s version %d" % (self.loaded.name, self.loaded.version)

    def _takes(self) -> str:
        each = ["%s (%s %s)" % (info.name, info.datatype, list(info.shape)) for info in self.inputs]
        return "its inputs are %s" % ", ".join(each)


def _info(tensor: manifest.Tensor, batches: bool) -> TensorInfo:
    shape: Tuple[int, ...] = tuple(tensor.shape)
    return TensorInfo(tensor.name, KSERVE[tensor.dtype], (-1, *shape[1:]) if batches else shape)


def _details(tensor: manifest.Tensor) -> Dict[str, Any]:
    """What an interpreter would say of it."""
    return {
        "name": tensor.name,
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "quantization": (tensor.scale or 0.0, tensor.zero_point),
    }


def _kept(name: str, data: bytes) -> str:
    """What a result has for a large tensor: a class map, which is a PNG, in itself."""
    kind = "image/png" if name.endswith(".png") else "application/octet-stream"
    return "data:%s;base64,%s" % (kind, base64.b64encode(data).decode("ascii"))


def _takes_pictures(loaded: Loaded) -> bool:
    one = loaded.inputs[0]
    if loaded.feed is not None and loaded.feed.pictures is False:
        return False
    try:
        feeding.rule(InputForm(one.dtype, tuple(one.shape), one.scale, one.zero_point, loaded.feed))
    except feeding.NoRule:
        return False
    return True
