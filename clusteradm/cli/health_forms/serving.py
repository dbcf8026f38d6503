"""Figures of the endpoint: what HAProxy on the head says of itself and of the boards, and these of their requests."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.cli.health_forms.figures import BUCKET, COUNT, HISTOGRAM, SUM, Family, Figure
from clusteradm.node.spec.wire.serving import REQUEST_SECONDS, BoardState
from clusteradm.node.spec.wire.serving_requests import ServingStatus

# HAProxy's own, of its backends and ports, are at port 8404 of the head, in the cluster's network.
FAMILIES = {
    "serving_balancer_up": Family("gauge", "1 if HAProxy on the head answers.", ()),
    "serving_board_up": Family("gauge", "1 if HAProxy sends requests to the board."),
    "serving_board_sessions": Family("gauge", "Requests that the board has now."),
    "serving_board_requests_total": Family("counter", "Requests that HAProxy has sent to the board since its start."),
    "serving_board_retries_total": Family("counter", "Requests that the board has lost, and that were sent again."),
    "serving_board_errors_total": Family("counter", "Connections and answers of the board that failed."),
    "serving_requests_total": Family(
        "counter",
        "Requests for a model that the board has had: ok, or by the kind of error.",
        ("host", "model", "outcome"),
    ),
    "serving_request_seconds": Family(
        HISTOGRAM, "Time from the first byte of a request to the board's answer.", ("host", "model")
    ),
}


def of_serving(status: ServingStatus) -> Iterator[Figure]:
    """The figures; those of HAProxy only of boards that it has."""
    yield Figure("serving_balancer_up", {}, not status.balancer)
    for host, said in status.boards.items():
        if said.state is not None:
            yield from _of_traffic(host, said.state)
        if said.balanced is None:
            continue
        labels = {"host": host}
        yield Figure("serving_board_up", labels, said.balanced.startswith("UP"))
        yield Figure("serving_board_sessions", labels, said.sessions)
        yield Figure("serving_board_requests_total", labels, said.requests)
        yield Figure("serving_board_retries_total", labels, said.retries)
        yield Figure("serving_board_errors_total", labels, said.errors)


def _of_traffic(host: str, state: BoardState) -> Iterator[Figure]:
    for traffic in state.traffic:
        labels = {"host": host, "model": traffic.model}
        for outcome, number in traffic.outcomes.items():
            yield Figure("serving_requests_total", {**labels, "outcome": outcome}, number)
        name, whole = "serving_request_seconds", 0
        for bound, number in zip((*map("{:g}".format, REQUEST_SECONDS), "+Inf"), traffic.times, strict=True):
            whole += number
            yield Figure(name + BUCKET, {**labels, "le": bound}, whole)
        yield Figure(name + SUM, labels, traffic.seconds)
        yield Figure(name + COUNT, labels, whole)
