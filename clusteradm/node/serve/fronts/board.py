"""What a board says of itself over HTTP: /metrics, /clusteradm/state and balance, and the page at /."""

import functools
import os
from typing import Any, Dict, List

import clusteradm
from clusteradm.node.serve.fronts import metrics
from clusteradm.node.serve.fronts.exchange import HTML, PROMETHEUS, Exchange, HttpError, Reply, dumps
from clusteradm.node.spec.wire.serving import BoardState

_PAGE = os.path.join(os.path.dirname(__file__), "page.html")
# Of the page: nothing from elsewhere, and no other site may put it into a frame or read from it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGE_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
    ("Permissions-Policy", "camera=(self)"),
)
_NO_STORE = (("Cache-Control", "no-store"),)


async def answer(exchange: Exchange) -> Reply:
    """Any of them."""
    exchange.allow("GET", "HEAD")
    plane, parts = exchange.desk.plane, exchange.parts
    if parts == [""]:
        return Reply(_page(), HTML, headers=_PAGE_HEADERS)
    if parts == ["metrics"]:
        return Reply(exchange.desk.metrics.text(await plane.board()), PROMETHEUS)
    if parts == ["clusteradm", "state"]:
        return Reply(dumps(await _state(exchange)), headers=_NO_STORE)
    if parts == ["clusteradm", "balance"]:
        # HAProxy's http-check disable-on-404: no new requests, and those at work end. But what waits on a board that
        # has no engine is to go to another one (on-marked-down shutdown-sessions).
        wants = plane.balance
        status = 200 if wants else 404 if plane.able else 503
        return Reply(dumps({"balance": wants}), status=status, headers=_NO_STORE)
    if parts == ["clusteradm", "overview"]:
        return Reply(dumps(await _overview(exchange)), headers=_NO_STORE)
    raise HttpError(404, "nothing is served at %s" % ascii(exchange.call.operation[:200]))


@functools.lru_cache(maxsize=1)
def _page() -> bytes:
    with open(_PAGE, "rb") as file:
        return file.read()


async def _state(exchange: Exchange) -> Dict[str, Any]:
    """The state, with what the front processes have counted."""
    state, counts = await exchange.desk.plane.board(), exchange.desk.metrics.whole()
    busy = metrics.busy(counts)
    for each in state.versions:
        each.busy_seconds = busy.get((each.name, str(each.version)), 0.0)
    state.traffic = metrics.traffic(counts, {each.name for each in state.versions})
    return _document(state)


def _document(state: BoardState) -> Dict[str, Any]:
    """As JSON, whose records are their fields."""
    found = dict(vars(state))
    for name in ("versions", "engines", "traffic"):
        found[name] = [vars(each) for each in found[name]]
    return found


async def _overview(exchange: Exchange) -> Dict[str, Any]:
    """What the page shows: the state, what the models take, and how many requests there were."""
    models: List[Dict[str, Any]] = []
    for info in await exchange.desk.models():
        models.append(
            {
                "name": info.name,
                "version": info.version,
                "versions": list(info.versions),
                "labels": info.labels,
                "task": info.task,
                "kind": info.kind,
                "picture": info.picture,
                "input": info.inputs[0].name if info.inputs else "",
                "inputs": [[each.name, each.datatype, list(each.shape)] for each in info.inputs],
                "outputs": [[each.name, each.datatype, list(each.shape)] for each in info.outputs],
                "classes": len(info.class_names),
            }
        )
    return {
        "program": clusteradm.__version__,
        "state": await _state(exchange),
        "models": models,
        "requests": exchange.desk.metrics.requests(),
    }
