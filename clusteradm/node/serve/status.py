"""Status of serving, as the head sees it: each board's server asked over HTTP, and HAProxy over its socket."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Optional

from clusteradm.node.handler import handles
from clusteradm.node.serve import balancer
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.serving import BoardState
from clusteradm.node.spec.wire.serving_requests import AskServing, BoardSaid, ServingStatus

PATH = "/clusteradm/state"
_MOST_BYTES = 4 << 20
_AT_A_TIME = 32


@handles(AskServing)
def status(request: AskServing) -> ServingStatus:
    """Ask all boards at once; one that does not answer costs no other."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        asked = {host: pool.submit(ask, host, place, request.seconds) for host, place in request.boards.items()}
        said = {host: answer.result() for host, answer in asked.items()}
    servers: Dict[str, balancer.Server] = {}
    trouble = ""
    if balancer.is_set_up():
        try:
            servers = balancer.servers()
        except balancer.BalancerError as error:
            trouble = str(error)
    else:
        trouble = "HAProxy is not set up on the head"
    boards = {host: _with(about, servers.get(host)) for host, about in said.items()}
    return ServingStatus(boards, trouble[:2000])


def ask(host: str, place: str, seconds: float) -> BoardSaid:
    """What the server at ADDRESS:PORT says; of another host's it says nothing."""
    address, _, port = place.rpartition(":")
    connection = http.client.HTTPConnection(address, int(port), timeout=seconds)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES + 1)
        if answer.status != 200:
            return BoardSaid(error="http://%s%s answers %d" % (place, PATH, answer.status))
        if len(body) > _MOST_BYTES:
            return BoardSaid(error="http://%s%s answers more than %d bytes" % (place, PATH, _MOST_BYTES))
        state = decode(BoardState, loads(body))
        if state.host != host:
            return BoardSaid(error="http://%s%s is the server of %s" % (place, PATH, ascii(state.host)[:80]))
        return BoardSaid(state)
    except WireError as error:
        return BoardSaid(error="http://%s%s is no state of a board: %s" % (place, PATH, str(error)[:500]))
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return BoardSaid(error="http://%s does not answer: %s" % (place, why[:500]))
    finally:
        connection.close()


def _with(said: BoardSaid, server: Optional[balancer.Server]) -> BoardSaid:
    if server is None:
        return said
    return BoardSaid(said.state, said.error, *server)
