"""Asking of the share helper, with a time limit: a head that is away costs its answer and nothing else."""

import asyncio
from typing import Any, Dict, Optional

from clusteradm.node.serve.process import Process


class ShareError(Exception):
    """The share did not answer, or not with what was asked; the text says which."""


class Asking:
    """The helper process. One that hangs is ended; another is started when it has really gone."""

    def __init__(self, shared: str, cache: str) -> None:
        self._spec = {"shared": shared, "cache": cache}
        self._process: Optional[Process] = None
        self._hung: Optional["asyncio.Future[str]"] = None
        self._turn = asyncio.Lock()

    async def ask(self, seconds: float, do: str, **options: Any) -> Dict[str, Any]:
        """The answer to a request. Raises ShareError."""
        async with self._turn:
            if self._hung is not None and not self._hung.done():
                raise ShareError("%s does not answer: is the head up?" % self._spec["shared"])
            self._hung = None
            if self._process is None:
                try:
                    self._process = await Process.start("share", self._spec)
                except OSError as error:
                    raise ShareError("its helper does not start: %s" % error) from None
            process = self._process
            process.lines.send({"do": do, **options})
            try:
                answer = await asyncio.wait_for(process.lines.receive(), seconds)
            except asyncio.TimeoutError:
                self.close()
                raise ShareError(
                    "%s did not answer in %.0f s: is the head up?" % (self._spec["shared"], seconds)
                ) from None
            if not isinstance(answer, dict):
                self.close()
                raise ShareError("its helper has ended")
            if "error" in answer and len(answer) == 1:
                raise ShareError(str(answer["error"])[:1500])
            return answer

    def close(self) -> None:
        """End the helper."""
        if self._process is not None:
            self._process.kill()
            self._hung = asyncio.ensure_future(self._process.ended())
            self._process = None
