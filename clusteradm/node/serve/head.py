"""Head of the cluster, asked over HTTP to serve a model or to serve it no more: KServe's repository extension."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any, Awaitable, Callable, Dict, Optional

from clusteradm.node.serve.plane import INTERNAL, INVALID, NOT_FOUND, UNAVAILABLE, Refusal
from clusteradm.node.spec.wire.decode import WireError, loads
from clusteradm.node.spec.wire.serving import ServeConfig

PORT = 8002
_SECONDS = 15.0  # of one question; the head answers "followed" after 10 at the latest
# Of a change from its beginning to its answer: less than HAProxy waits for it (haproxy.cfg.j2), which knows no reason.
MOST_SECONDS = 280.0
_MOST_BYTES = 1 << 20
_KINDS = {404: NOT_FOUND, 400: INVALID, 409: INVALID}


def change(config: ServeConfig, port: int = PORT) -> Optional[Callable[[str, bool], Awaitable[None]]]:
    """What changes the desired state and waits until the boards have followed; None without a head."""
    if config.head is None:
        return None
    base = "http://%s:%d" % (config.head, port)

    async def run(model: str, unload: bool) -> None:
        end = time.monotonic() + MOST_SECONDS
        body = json.dumps({"model": model}).encode("utf-8")
        asked = await _ask(base + ("/unload" if unload else "/load"), body)
        revision = asked.get("revision")
        if type(revision) is not int:
            raise Refusal(UNAVAILABLE, "the head's answer is cut short or damaged: run clusteradm serve status", 5.0)
        text = ""
        while True:
            question = _ask("%s/followed?revision=%d" % (base, revision), None)
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

    return run


async def _ask(url: str, body: Optional[bytes]) -> Dict[str, Any]:
    return await asyncio.get_event_loop().run_in_executor(None, _asked, url, body)


def _asked(url: str, body: Optional[bytes]) -> Dict[str, Any]:
    # Straight to the head, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http alone
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return _document(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        text = _document(error.read(_MOST_BYTES)).get("error") or "the head answers %d" % error.code
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
