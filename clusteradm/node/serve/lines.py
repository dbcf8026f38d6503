"""Lines of JSON between the supervisor and its processes, over a socket pair or pipes."""

import asyncio
import json
from typing import Any, Optional

from clusteradm.node.spec.wire.decode import WireError, loads

MOST_LINE = 64 << 20


class Lines:
    """Both directions of a conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, document: Any) -> None:
        """Send a document; to one that has gone, nothing."""
        if not self._writer.transport.is_closing():
            self._writer.write(json.dumps(document, default=vars).encode("utf-8") + b"\n")

    async def receive(self) -> Optional[Any]:
        """The next document; None at the end, which what is no JSON is too."""
        try:
            line = await self._reader.readline()
            return loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, WireError):
            return None

    def close(self) -> None:
        """End the conversation."""
        self._writer.close()
