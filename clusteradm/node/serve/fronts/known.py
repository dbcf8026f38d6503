"""Known requests: those that were answered, for more of them that say the same but for their numbers.

A camera, or any client that asks again and again, sends the same JSON before other bytes. What was read and checked of
it once is not read again.
"""

from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from clusteradm.node.serve.plane import Again

_MOST = 256
_MOST_JSON = 4096

# The path, the JSON before the tensors, and the bytes of the whole body.
Key = Tuple[str, bytes, int]


class Known(NamedTuple):
    """A request that was answered. `outputs`: of its answer, as its protocol describes them, where that is not done
    anew."""

    model: str
    again: Again
    outputs: List[Dict[str, Any]]


class KnownRequests:
    """The last of them."""

    def __init__(self) -> None:
        self._all: "OrderedDict[Key, Known]" = OrderedDict()

    def get(self, key: Key) -> Optional[Known]:
        """The request that said this."""
        found = self._all.get(key)
        if found is not None:
            self._all.move_to_end(key)
        return found

    def keep(self, key: Key, known: Known) -> None:
        """Keep one, in the place of the one that was asked for longest ago."""
        if len(key[1]) > _MOST_JSON:
            return
        self._all[key] = known
        self._all.move_to_end(key)
        if len(self._all) > _MOST:
            self._all.popitem(last=False)
