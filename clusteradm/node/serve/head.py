"""Head of the cluster, asked over HTTP by a board (control.py): to serve a model or to serve it no more, and what there
is on all boards. KServe's repository extension."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any, Dict, Optional

from clusteradm.node.serve.index import Index
from clusteradm.node.serve.plane import INTERNAL, INVALID, NOT_FOUND, UNAVAILABLE, Refusal
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.serving import MOST_BYTES, ServeConfig

PORT = 8002
_SECONDS = 15.0  # of one question; the head answers "followed" after 10 at the latest
_INDEX_SECONDS = 5.0  # it asks the boards, for 2 at most
# Of a change from its beginning to its answer: less than HAProxy waits for it (haproxy.cfg.j2), which knows no reason.
MOST_SECONDS = 280.0
_KINDS = {404: NOT_FOUND, 400: INVALID, 409: INVALID}


def of(config: ServeConfig, port: int = PORT) -> Optional["Head"]:
    """The head that a board asks; None where it has none."""
    return Head("http://%s:%d" % (config.head, port)) if config.head is not None else None


class Head:
    """`base`: its address."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._asking: Optional["asyncio.Future[Optional[Index]]"] = None

    async def change(self, model: str, unload: bool) -> None:
        """Change the desired state, and wait until the boards have followed. Raises Refusal."""
        end = time.monotonic() + MOST_SECONDS
        body = json.dumps({"model": model}).encode("utf-8")
        asked = await _ask(self._base + ("/unload" if unload else "/load"), body)
        revision = asked.get("revision")
        if type(revision) is not int:
            raise Refusal(UNAVAILABLE, "the head's answer is cut short or damaged: run clusteradm serve status", 5.0)
        text = ""
        while True:
            question = _ask("%s/followed?revision=%d" % (self._base, revision), None)
            try:
                followed = await asyncio.wait_for(question, max(0.0, end - time.monotonic()))
            except asyncio.TimeoutError:
                break
            if followed.get("done") is True:
                return
            waits = followed.get("waits")
            text = "; ".join(map(str, waits[:20]))[:1000] if isinstance(waits, list) else ""
        why = "%s; they go on: clusteradm serve status" % (text or "the head does not say which")
        raise Refusal(UNAVAILABLE, "not all boards have followed in %.0f s: %s" % (MOST_SECONDS, why))

    async def index(self) -> Optional[Index]:
        """What there is on all boards; None where the head does not say. However many ask, the head is asked once."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._index())
        return await asyncio.shield(self._asking)

    async def _index(self) -> Optional[Index]:
        try:
            return decode(Index, await _ask(self._base + "/index", None, _INDEX_SECONDS))
        except (Refusal, WireError):
            return None


async def _ask(url: str, body: Optional[bytes], seconds: float = _SECONDS) -> Dict[str, Any]:
    return await asyncio.get_event_loop().run_in_executor(None, _asked, url, body, seconds)


def _asked(url: str, body: Optional[bytes], seconds: float) -> Dict[str, Any]:
    # Straight to the head, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http alone
    try:
        with opener.open(request, timeout=seconds) as answer:
            return _document(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        text = _document(error.read(MOST_BYTES)).get("error") or "the head answers %d" % error.code
        raise Refusal(_KINDS.get(error.code, INTERNAL), str(text)[:1000]) from None
    except (OSError, http.client.HTTPException) as error:
        why = ascii(str(error) or type(error).__name__)[1:-1][:300]
        raise Refusal(UNAVAILABLE, "the head does not answer (%s): run clusteradm serve status" % why, 5.0) from None


def _document(data: bytes) -> Dict[str, Any]:
    try:
        found = loads(data)
    except WireError:
        return {}
    return found if isinstance(found, dict) else {}
