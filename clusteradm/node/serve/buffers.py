"""Buffers of HAProxy: it sends a request again only while it has it whole, in one of them."""

import re
from typing import Iterable, Optional

from clusteradm.node.serve.fronts.limits import MOST_BODY
from clusteradm.node.spec.wire.manifest import Manifest

# As haproxy.cfg.j2 has them: a power of two, with room for the headers, of which the memory holds so many at least.
_LEAST, _MOST, _HEADERS = 1 << 18, 1 << 26, 16384
_FEWEST = 32
_CROWD = 2000  # connections, or as many as have half of the buffers
_MACHINE = 1100  # connections of one machine, or as many as have seven eighths of the buffers
_SIZE = re.compile(r"^    tune\.bufsize ([0-9]{1,10})$", re.MULTILINE)
_COUNT = re.compile(r"^    tune\.buffers\.limit [0-9]{1,10}$", re.MULTILINE)
_ALL = re.compile(r"(fe_conn gt )[0-9]{1,10}")
_ITS = re.compile(r"(sc1_conn_cur\(sources\) gt )[0-9]{1,10}")
_MEMORY = re.compile(r"^    # .*; at most ([0-9]{1,6}) MiB of buffers", re.MULTILINE)


def input_bytes(manifest: Manifest) -> int:
    """The bytes of all inputs of one inference, as tensors."""
    total = 0
    for tensor in manifest.inputs:
        size = _width(tensor.dtype)
        for length in tensor.shape:
            size *= max(length, 1)
        total += size
    return total


def _width(dtype: str) -> int:
    found = re.search(r"(8|16|32|64)$", dtype)
    return int(found.group(1)) // 8 if found else 1


def widened(configuration: str, manifests: Iterable[Manifest]) -> Optional[str]:
    """The configuration with buffers for the largest input of these models, as the next serve up would write it; None
    where they are large enough, or it has none. For an input too large for the memory, the largest that are not:
    its requests are not sent again."""
    size, memory = _SIZE.search(configuration), _MEMORY.search(configuration)
    if size is None or memory is None:
        return None
    # What no request may have, and a manifest may say all the same, needs no buffer.
    largest = max((size for size in map(input_bytes, manifests) if size <= MOST_BODY), default=0)
    wanted, total = _LEAST, int(memory.group(1)) << 20
    while wanted < largest + _HEADERS and 2 * wanted <= min(_MOST, total // _FEWEST):
        wanted *= 2
    if wanted <= int(size.group(1)):
        return None
    buffers = total // wanted
    text = _SIZE.sub("    tune.bufsize %d" % wanted, configuration, 1)
    text = _COUNT.sub("    tune.buffers.limit %d" % buffers, text, 1)
    crowd = min(buffers // 2, _CROWD)
    text = _ALL.sub(lambda found: found.group(1) + str(crowd), text)
    return _ITS.sub(lambda found: found.group(1) + str(max(crowd, min(buffers * 7 // 8, _MACHINE))), text)
