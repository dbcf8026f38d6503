"""The forms on the command line: formats, files and refusals of `clusteradm health`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from health.conftest import DKMS_1_2, Tree, tree
from health.test_survey import cluster, survey

from clusteradm.cli import health as command
from clusteradm.cli.health_forms.figures import FAMILIES, figures
from clusteradm.cli.main import main
from clusteradm.health import Survey, saved
from clusteradm.inventory import Cluster

__all__ = ["cluster", "survey", "tree"]  # fixtures

ADDRESS = "0000:01:00.0"


@pytest.fixture
def path(cluster: Cluster, survey: Survey, tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A saved survey: one TPU on each host, that of c hot."""
    tree.card(ADDRESS, 0, {**DKMS_1_2, "temp": "91050", "interrupt_counts": "0x00: 5\n0x01: 7"})
    survey.documents["c"].update(tree.probe(monkeypatch))
    cluster.hosts["c"].vars["cluster_tpus"] = 1  # type: ignore[index]
    survey.taken, survey.seconds = 1764000000.0, 2.5
    saved.write(tmp_path / "saved.json", saved.document(cluster, survey))
    return tmp_path / "saved.json"


def test_prometheus(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--from", str(path), "--format", "prometheus"]) == 3
    text = capsys.readouterr().out
    for sample in (
        f'clusteradm_tpu_temperature_celsius{{cluster="cluster",host="c",tpu="{ADDRESS}"}} 91.05',
        f'clusteradm_tpu_trip_point_celsius{{cluster="cluster",host="c",tpu="{ADDRESS}",point="1"}} 89.8',
        f'clusteradm_tpu_interrupts_total{{cluster="cluster",host="c",tpu="{ADDRESS}"}} 12',
        f'clusteradm_tpu_owned{{cluster="cluster",host="c",tpu="{ADDRESS}"}} 0',
        'clusteradm_host_tpus{cluster="cluster",host="c"} 1',
        'clusteradm_host_tpus_expected{cluster="cluster",host="c"} 1',
        'clusteradm_host_disk_free_bytes{cluster="cluster",host="h",path="/"} 4000000000',
        'clusteradm_host_share_seconds{cluster="cluster",host="h"} 0.01',
        'clusteradm_survey_timestamp_seconds{cluster="cluster"} 1764000000',
    ):
        assert sample + "\n" in text


def test_figures_of_the_board_and_its_link(cluster: Cluster, survey: Survey) -> None:
    survey.documents["c"]["machine"] = {
        "zones": [{"type": "cpu-thermal", "temp": 51000}],
        "cma_total": 335544320,
        "cma_free": None,
        "reboot": True,
    }
    survey.documents["c"]["links"] = {"head": {"loss": 0.25, "milliseconds": 0.4}}
    found = {figure.name: (figure.value, dict(figure.labels)) for figure in figures(cluster, survey)}
    host = {"host": "c"}
    assert found["host_temperature_celsius"] == (51.0, {**host, "zone": "cpu-thermal"})
    assert found["host_cma_total_bytes"] == (335544320.0, host) and "host_cma_free_bytes" not in found
    assert found["host_reboot_pending"] == (1.0, host) and found["host_head_loss_ratio"] == (0.25, host)
    assert found["host_head_round_trip_seconds"] == (0.0004, host)


def test_json_has_the_figures(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--from", str(path), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1 and document["summary"]["warning"] == 1 and document["taken"] == 1764000000
    assert {"name": "tpu_owned", "labels": {"host": "c", "tpu": ADDRESS}, "value": 0.0} in document["figures"]


def test_nagios(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--from", str(path), "--format", "nagios"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("CLUSTERADM WARNING - 2 hosts") and f"'c {ADDRESS}'=91.05;84.8;89.8" in out
    assert main(["health", "--from", str(path) + "-not-there", "--format", "nagios"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("CLUSTERADM UNKNOWN - ") and out.count("\n") == 1


def test_html(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert main(["health", "--from", str(path), "--html", str(page)]) == 3
    assert "THROTTLED" in page.read_text() and "THROTTLED" in capsys.readouterr().out
    assert main(["health", "--from", str(path), "--html", str(tmp_path / "no" / "report.html")]) == 2


def test_expect(path: Path, cluster: Cluster, survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    survey.documents["c"]["tpu"]["apex"][0]["temp"] = "40000"
    cluster.hosts["c"].vars["cluster_tpus"] = 0  # type: ignore[index]
    saved.write(path, saved.document(cluster, survey))
    assert main(["health", "--from", str(path)]) == 0
    assert main(["health", "--from", str(path), "--expect"]) == 3
    assert "SURPLUS" in capsys.readouterr().out
    cluster.hosts["c"].vars["cluster_tpus"] = 2  # type: ignore[index]
    saved.write(path, saved.document(cluster, survey))
    assert main(["health", "--from", str(path), "--expect"]) == 3
    assert "ABSENT" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [["--watch", "--json"], ["--watch", "1", "--format", "nagios"], ["--watch", "--html", "x"], ["--anonymous"]],
)
def test_what_does_not_go_together(path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", *options]) == 2
    assert main(["health", "--from", str(path), "--watch"]) == 2
    assert "--watch" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "nan", "x", "1e9"])
def test_no_number_of_seconds(text: str) -> None:
    with pytest.raises(SystemExit):
        main(["health", "--watch=" + text])


def test_watch_until_interrupted(
    cluster: Cluster, survey: Survey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = []

    def ask(*arguments: object, **options: object) -> Survey:
        rounds.append(arguments)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return survey

    monkeypatch.setattr(command, "ask", ask)
    assert main(["health", "-i", str(cluster.path), "--watch", "0.1"]) == 130
    captured = capsys.readouterr()
    assert captured.out.count("Edge TPUs OK, ok\n") == 2 and captured.err.splitlines()[1:] == [
        "clusteradm: interrupted"
    ]


def test_no_figure_of_what_is_odd(cluster: Cluster, survey: Survey) -> None:
    """Whatever a document says instead of a number, there is no figure of it, and no error."""
    full = {figure.name for figure in figures(cluster, survey)}
    odds: list[Any] = [None, "", "x", [], {}, True, float("nan"), "1e999", 10**400]
    for odd in odds:
        for section in ("clock", "system", "share", "tpu"):
            survey.documents["c"][section] = odd
        survey.documents["h"]["system"] = {"disks": {"/": odd, "/x": {"size": odd}}, "failed_units": odd, "uptime": odd}
        survey.documents["h"]["tpu"] = {
            "pci": odd,
            "apex": [odd, {"pci_address": odd}, {"pci_address": "a", "temp": odd}],
        }
        names = {figure.name for figure in figures(cluster, survey)}
        assert names <= full | {"tpu_info", "host_failed_units"} <= set(FAMILIES)
