"""Signature of a servable: a client's tensors to arrays, and back."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import BYTES, INVALID, Refusal, Request, Tensor, TensorInfo
from clusteradm.node.serve.servables.work import Arrays, texts
from clusteradm.node.serve.signature import Signature
from clusteradm.node.spec.datatypes import datatype_of


class ServableSignature(Signature):
    """Tensors of one version as clients see them."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.inputs = [TensorInfo(each.name, datatype_of(each.dtype), tuple(each.shape)) for each in loaded.inputs]
        self.outputs = [TensorInfo(each.name, datatype_of(each.dtype), tuple(each.shape)) for each in loaded.outputs]
        self._picture = None

    def encoded(self, request: Request) -> Optional[List[bytes]]:
        """None: what is BYTES is a tensor as any other."""
        return None

    def named(self, request: Request) -> Arrays:
        """The arrays of a request by name. Raises Refusal."""
        return {info.name: array for info, array in zip(self.inputs, self.arrays(request._replace(rows=False)))}

    def _array(self, info: TensorInfo, tensor: Tensor, rows: bool) -> Any:
        if info.datatype != BYTES or tensor.datatype != BYTES:
            return super()._array(info, tensor, rows)
        self._check_shape(info, tensor, rows)
        if len(tensor.data) != int(np.prod(tensor.shape, dtype=np.int64)):
            raise Refusal(
                INVALID, "input %s: %d elements, and not as many in its shape" % (info.name, len(tensor.data))
            )
        return texts(tensor.data, tensor.shape)

    def tensors(self, outputs: Sequence[Any], wanted: Sequence[str]) -> List[Tensor]:
        """The outputs that are wanted, all where none is named. Raises Refusal."""
        found = super().tensors(outputs, wanted)
        return [each._replace(data=each.data.ravel().tolist()) if each.datatype == BYTES else each for each in found]

    def result(self, outputs: Sequence[Any], size: Any, parameters: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """None: the outputs are all there is."""
        return None
