"""Bytes of a request: HAProxy sends one again only while it has it whole."""

from __future__ import annotations

import math
import re

from clusteradm.node.spec.wire.manifest import Manifest


def input_bytes(manifest: Manifest) -> int:
    """The bytes of all inputs of one inference, as tensors."""
    return sum(math.prod(max(size, 1) for size in tensor.shape) * _width(tensor.dtype) for tensor in manifest.inputs)


def _width(dtype: str) -> int:
    found = re.search(r"(8|16|32|64)$", dtype)
    return int(found[1]) // 8 if found else 1
