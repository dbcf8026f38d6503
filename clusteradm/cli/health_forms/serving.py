"""Figures of the endpoint: what HAProxy on the head says of itself and of the boards."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.cli.health_forms.figures import Family, Figure
from clusteradm.node.spec.wire.serving_requests import ServingStatus

# HAProxy's own, of its backends and ports, are at port 8404 of the head, in the cluster's network.
FAMILIES = {
    "serving_balancer_up": Family("gauge", "1 if HAProxy on the head answers.", ()),
    "serving_board_up": Family("gauge", "1 if HAProxy sends requests to the board."),
    "serving_board_sessions": Family("gauge", "Requests that the board has now."),
    "serving_board_requests_total": Family("counter", "Requests that HAProxy has sent to the board since its start."),
    "serving_board_retries_total": Family("counter", "Requests that the board has lost, and that were sent again."),
    "serving_board_errors_total": Family("counter", "Connections and answers of the board that failed."),
}


def of_serving(status: ServingStatus) -> Iterator[Figure]:
    """The figures; of a board that HAProxy does not have none."""
    yield Figure("serving_balancer_up", {}, not status.balancer)
    for host, said in status.boards.items():
        if said.balanced is None:
            continue
        labels = {"host": host}
        yield Figure("serving_board_up", labels, said.balanced.startswith("UP"))
        yield Figure("serving_board_sessions", labels, said.sessions)
        yield Figure("serving_board_requests_total", labels, said.requests)
        yield Figure("serving_board_retries_total", labels, said.retries)
        yield Figure("serving_board_errors_total", labels, said.errors)
