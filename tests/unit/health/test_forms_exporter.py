"""clusteradm exporter: over HTTP, as a file, and what it never shows to whoever asks."""

from __future__ import annotations

import argparse
import http.client
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusteradm.cli import exporter, measuring
from clusteradm.cli.exporter import Cache
from clusteradm.cli.health_forms.prometheus import prometheus
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.serving import of_serving
from clusteradm.cli.main import main
from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.health import Survey
from clusteradm.inventory import Cluster
from clusteradm.node.spec.wire.serving import REQUEST_SECONDS, BoardState, ModelTraffic
from clusteradm.node.spec.wire.serving_requests import BoardSaid, ServingStatus

from .test_survey import cluster, survey

__all__ = ["cluster", "survey"]  # fixtures

Serve = Callable[[Callable[[], str]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def start(take: Callable[[], str]) -> int:
        server = exporter.open_server(("127.0.0.1", 0), Cache(take, 60))
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def test_metrics(serve: Serve) -> None:
    status, headers, body = get(serve(lambda: "up 1\n"))
    assert (status, body) == (200, "up 1\n")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8" and headers["Server"] == "clusteradm"


def test_other_paths_and_methods(serve: Serve) -> None:
    port = serve(lambda: "up 1\n")
    assert get(port, "/")[0] == 200 and get(port, "/etc/passwd")[0] == 404 and get(port, "/metrics?x=1")[0] == 200
    assert get(port, method="HEAD")[::2] == (200, "") and get(port, method="POST")[0] == 501


@pytest.mark.parametrize("error", [ClusteradmError("secret place"), RuntimeError("secret place")])
def test_who_asks_sees_no_traceback(serve: Serve, error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def take() -> str:
        raise error

    status, _, body = get(serve(take))
    assert status == 503 and "secret" not in body and "Traceback" not in body
    assert "secret place" in capsys.readouterr().err


def test_many_who_ask_at_once_are_one_survey(serve: Serve) -> None:
    taken = []

    def take() -> str:
        taken.append(time.monotonic())
        time.sleep(0.3)
        return f"surveys {len(taken)}\n"

    port = serve(take)
    with ThreadPoolExecutor(8) as pool:
        bodies = {body for _, _, body in pool.map(get, [port] * 8)}
    assert bodies == {"surveys 1\n"} and len(taken) == 1


def test_the_cache_grows_old_and_keeps_no_failure() -> None:
    now = [0.0]
    answers: Iterator[str | UsageError] = iter(["one", UsageError("broken"), "two", "three"])

    def take() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache = Cache(take, 30, lambda: now[0])
    assert cache.text() == cache.text() == "one"
    now[0] = 30.0
    with pytest.raises(UsageError):
        cache.text()
    assert cache.text() == "two"
    now[0] = 59.9
    assert cache.text() == "two"
    now[0] = 60.0
    assert cache.text() == "three"


def test_a_client_that_goes_away_leaves_the_others_served(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    port = serve(lambda: "up 1\n" * 100_000)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert get(port)[0] == 200
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9999", ("127.0.0.1", 9999)),
        (":9999", ("127.0.0.1", 9999)),
        ("0.0.0.0:9", ("0.0.0.0", 9)),  # noqa: S104
        ("head:80", ("head", 80)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_where_it_listens(text: str, place: tuple[str, int]) -> None:
    assert exporter._place(text) == place


@pytest.mark.parametrize("text", ["", "x", "1.2.3.4", "a:70000", "::1:80", "a b:1"])
def test_no_place_to_listen(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="ADDRESS:PORT"):
        exporter._place(text)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="in use"):
        exporter.open_server(("127.0.0.1", taken.getsockname()[1]), Cache(str, 1))


def test_textfile(cluster: Cluster, survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.health, "collect", lambda *arguments, **options: survey)
    monkeypatch.setattr(measuring, "running", lambda jobs: [])
    serving = SimpleNamespace(
        show=lambda: SimpleNamespace(ready=True), status=lambda: ServingStatus({"c": BoardSaid(balanced="UP")})
    )
    monkeypatch.setattr(measuring, "Serving", lambda connections, cluster: serving)
    path = tmp_path / "clusteradm.prom"
    path.write_text("old")
    survey.documents["c"]["runtime"]["mpi4py"] = None
    # Errors are in the file; the exit status is that of writing it.
    assert main(["exporter", "-i", str(cluster.path), "--textfile", str(path)]) == 0
    assert 'clusteradm_check_state{cluster="cluster",host="c",check="runtime",state="NO_MPI4PY"} 1' in path.read_text()
    assert 'clusteradm_serving_board_up{cluster="cluster",host="c"} 1' in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(each.name for each in tmp_path.iterdir()) == ["clusteradm.prom", "inventory.yml"]
    assert main(["exporter", "-i", str(cluster.path), "--textfile", str(tmp_path / "no" / "x.prom")]) == 2


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x.prom").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        exporter.write(tmp_path / "x.prom", "up 1\n")
    assert [each.name for each in tmp_path.iterdir()] == ["x.prom"]


def test_a_bad_inventory_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exporter", "-i", str(tmp_path / "none.yml"), "--listen", "127.0.0.1:0"]) == 2
    assert "none.yml" in capsys.readouterr().err


def test_the_endpoint_is_exported_where_there_is_one() -> None:
    up = BoardSaid(balanced="UP 1/2", sessions=3, requests=900, retries=4, errors=5)
    status = ServingStatus({"w1": up, "w2": BoardSaid(balanced="DOWN"), "w3": BoardSaid(error="it is none")})
    report = HealthReport("c", (), tuple(of_serving(status)))
    lines = prometheus(report).splitlines()
    for line in (
        'clusteradm_serving_balancer_up{cluster="c"} 1',
        'clusteradm_serving_board_up{cluster="c",host="w1"} 1',
        'clusteradm_serving_board_up{cluster="c",host="w2"} 0',
        'clusteradm_serving_board_sessions{cluster="c",host="w1"} 3',
        'clusteradm_serving_board_requests_total{cluster="c",host="w1"} 900',
        'clusteradm_serving_board_retries_total{cluster="c",host="w1"} 4',
        'clusteradm_serving_board_errors_total{cluster="c",host="w1"} 5',
    ):
        assert line in lines
    assert not any("w3" in line for line in lines)


def test_the_boards_requests_are_a_counter_and_a_histogram() -> None:
    times = (0, 3, 0, 1, *[0] * 9, 1)
    state = BoardState("w1", 1, True, traffic=(ModelTraffic("m", {"ok": 5, "overloaded": 2}, times, 12.5),))
    lines = prometheus(HealthReport("c", (), tuple(of_serving(ServingStatus({"w1": BoardSaid(state)}))))).splitlines()
    labels = 'cluster="c",host="w1",model="m"'
    assert f'clusteradm_serving_requests_total{{{labels},outcome="overloaded"}} 2' in lines
    at = lines.index("# TYPE clusteradm_serving_request_seconds histogram")
    counts = [0, 3, 3, 4, *[4] * 9, 5]
    bounds = [*(f"{bound:g}" for bound in REQUEST_SECONDS), "+Inf"]
    name = "clusteradm_serving_request_seconds"
    assert lines[at + 1 :] == [
        *(f'{name}_bucket{{{labels},le="{le}"}} {count}' for le, count in zip(bounds, counts, strict=True)),
        f"{name}_sum{{{labels}}} 12.5",
        f"{name}_count{{{labels}}} 5",
    ]


def test_a_balancer_that_does_not_answer_is_down() -> None:
    silent = HealthReport("c", (), tuple(of_serving(ServingStatus({}, balancer="it does not answer"))))
    assert 'clusteradm_serving_balancer_up{cluster="c"} 0' in prometheus(silent).splitlines()
