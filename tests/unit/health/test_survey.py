"""Whole surveys: what hosts said, judged; replayed from a file; shown."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from clusteradm import health
from clusteradm.cli.main import main
from clusteradm.errors import InputErrors, UsageError
from clusteradm.health import Survey, saved
from clusteradm.health.checks import expect
from clusteradm.health.finding import Severity
from clusteradm.inventory import Cluster, load

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {h: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {c: {cluster_ip: 10.0.0.2}}}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    return load(tmp_path / "inventory.yml")


def document(name: str, address: str, mount: dict[str, str] | None) -> dict[str, Any]:
    disk = {"device": 1, "size": 8_000_000_000, "free": 4_000_000_000, "inodes": 1000, "inodes_free": 900}
    return {
        "host": name,
        "clock": {"skew": 0.01, "doubt": 0.005},
        "system": {"disks": {"/": disk, "/boot": None}, "failed_units": []},
        "network": {
            "interfaces": {"eth0": {"state": "up", "addresses": [f"{address}/24"]}},
            "resolved": {"h": ["10.0.0.1"], "c": ["10.0.0.2"]},
        },
        "share": {"path": "/srv/cluster", "mount": mount, "use": {"ok": True, "seconds": 0.01}},
        "export": None,
        "runtime": {
            "ok": True,
            "google_pycoral": None,
            "litert": "2.3.0",
            "tflite_runtime": None,
            "mpi4py": "3.1.4",
            "python": "3.11.2",
            "package": "16.0TF2.19.1-1",
            "library": "BuildLabel(x), RuntimeVersion(14)",
        },
        "tpu": {
            "lspci": [],
            "proc": [],
            "pci": [],
            "apex": [],
            "driver": {"version": None, "loaded": False},
            "user_in_group": True,
        },
    }


@pytest.fixture
def survey() -> Survey:
    nfs = {"source": "h:/cluster", "type": "nfs4", "options": "rw"}
    hello = {"ok": True, "said": ["c", "h"], "wrote": ["c", "h"]}
    together = {"login": {"h": {"ok": True}, "c": {"ok": True}}, "hello": hello}
    return Survey({"h": document("h", "10.0.0.1", None), "c": document("c", "10.0.0.2", nfs)}, together)


def failing(cluster: Cluster, survey: Survey) -> list[tuple[str, str, str]]:
    return [(each.subject, each.check, each.state) for each in health.judge(cluster, survey) if not each.ok]


def test_a_survey_without_errors(cluster: Cluster, survey: Survey) -> None:
    assert failing(cluster, survey) == []
    checks = {finding.check for finding in health.judge(cluster, survey)}
    assert checks == {"ssh", "clock", "disk", "units", "network", "nfs", "runtime", "mpi"}


CHANGES: list[tuple[list[str | int], Any, str, str]] = [
    (["clock"], {"skew": -31e6, "doubt": 0.1}, "clock", "SKEWED"),
    (["system", "disks", "/", "free"], 100_000_000, "disk", "FULL"),
    (["system", "disks", "/", "inodes_free"], 3, "disk", "FULL"),
    (["system", "failed_units"], ["x.service"], "units", "FAILED"),
    (["network", "interfaces"], {"wlan0": {"state": "up", "addresses": []}}, "network", "NO_INTERFACE"),
    (["network", "interfaces", "eth0", "addresses"], ["192.168.1.4/24"], "network", "NO_ADDRESS"),
    (["network", "interfaces", "eth0", "state"], "down", "network", "DOWN"),
    (["network", "resolved", "c"], ["127.0.1.1"], "network", "NAMES"),
    (["share", "mount"], None, "nfs", "NOT_MOUNTED"),
    (["share", "mount", "type"], "ext4", "nfs", "FOREIGN"),
    (["share", "mount", "source"], "nas:/cluster", "nfs", "FOREIGN"),
    (["share", "mount", "source"], "10.0.0.9:/cluster", "nfs", "FOREIGN"),
    (["share", "use"], {"ok": False, "error": "x", "timeout": True}, "nfs", "STALE"),
    (["share", "use"], {"ok": False, "error": "Permission denied"}, "nfs", "UNUSABLE"),
    (["runtime"], {"ok": False, "error": "ended by signal 11"}, "runtime", "BROKEN"),
    (["runtime", "google_pycoral"], False, "runtime", "WRONG_PYCORAL"),
    (["runtime", "litert"], None, "runtime", "NO_RUNTIME"),
    (["runtime", "mpi4py"], None, "runtime", "NO_MPI4PY"),
    (["runtime", "python"], "3.8.10", "runtime", "MISMATCH"),
    (["runtime", "litert"], "1.0.1", "runtime", "MISMATCH"),
    (["network"], {"error": "OSError: x"}, "network", "UNKNOWN"),
    (["share"], {"error": "no answer within 8 s"}, "nfs", "UNKNOWN"),
    (["system"], {"error": "OSError: x"}, "disk", "UNKNOWN"),
]


@pytest.mark.parametrize(("path", "value", "check", "state"), CHANGES, ids=[f"{row[2]}-{row[3]}" for row in CHANGES])
def test_one_change_is_one_finding(
    cluster: Cluster, survey: Survey, path: list[str], value: Any, check: str, state: str
) -> None:
    changed = copy.deepcopy(survey)
    place: Any = changed.documents["c"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert failing(cluster, changed) == [("c", check, state)]
    (finding,) = [each for each in health.judge(cluster, changed) if not each.ok]
    assert finding.cause and finding.remedy


def test_who_has_no_root_squashed_may_still_work(cluster: Cluster, survey: Survey) -> None:
    survey.documents["c"]["share"]["root"] = {"ok": True, "squashed": False}
    assert failing(cluster, survey) == [("c", "nfs", "ROOT")] and "c" in fit(cluster, survey)


def test_a_head_with_a_disk_of_its_own_for_the_share_is_ok(cluster: Cluster, survey: Survey) -> None:
    mount = {"source": "/dev/sda1", "type": "ext4", "options": "rw"}
    survey.documents["h"]["share"] |= {"mount": mount, "root": {"ok": True, "squashed": False}}
    assert failing(cluster, survey) == []


def test_a_mount_that_does_not_answer_though_the_server_does(cluster: Cluster, survey: Survey) -> None:
    survey.documents["h"]["export"] = SERVES
    for name in ("h", "c"):
        survey.documents[name]["share"]["use"] = {"ok": False, "timeout": True}
    remedies = {each.host: each.remedy for each in health.judge(cluster, survey) if each.state == "STALE"}
    assert "half a minute" in remedies["c"] and "disk" in remedies["h"]
    survey.documents["c"]["share"]["use"]["answers"] = True
    (found,) = [each for each in health.judge(cluster, survey) if each.host == "c" and each.state == "STALE"]
    assert "takes no small file" in found.cause and "disk" in found.remedy


LATE = {"error": "no answer within 8 s", "timeout": True}
IDLE = {"cpus": 4, "running": 1, "lag": 0.4}


@pytest.mark.parametrize(
    ("section", "about", "check", "state", "severity"),
    [
        ("share", IDLE, "nfs", "STALE", Severity.ERROR),
        ("share", {}, "nfs", "STALE", Severity.ERROR),
        ("share", IDLE | {"running": 9}, "nfs", "BUSY", Severity.WARNING),
        ("network", IDLE | {"lag": 6.0}, "network", "BUSY", Severity.WARNING),
        ("system", IDLE | {"running": 30}, "disk", "BUSY", Severity.WARNING),
        ("network", IDLE, "network", "UNKNOWN", Severity.ERROR),
    ],
)
def test_a_busy_host_is_not_an_ill_one(
    cluster: Cluster, survey: Survey, section: str, about: dict[str, Any], check: str, state: str, severity: Severity
) -> None:
    survey.documents["c"] |= {section: LATE, "load": about}
    (finding,) = [each for each in health.judge(cluster, survey) if not each.ok]
    assert (finding.host, finding.check, finding.state, finding.severity) == ("c", check, state, severity)
    assert ("busy" in finding.cause) == (state == "BUSY") and finding.remedy


@pytest.mark.parametrize("declared", ["", ", cluster_tpus: 0"])
def test_a_host_without_tpus_needs_no_library_for_them(declared: str, survey: Survey, tmp_path: Path) -> None:
    """Bootstrap installs none there: "run clusteradm bootstrap" would be no remedy."""
    survey.documents["c"]["runtime"] |= {"library_error": "libedgetpu.so.1: cannot open", "package": None}
    inventory = INVENTORY.replace("{cluster_ip: 10.0.0.2}", "{cluster_ip: 10.0.0.2%s}" % declared)  # noqa: UP031
    (tmp_path / "other.yml").write_text(inventory)
    survey.documents["c"]["tpu"]["pci"] = []
    assert failing(load(tmp_path / "other.yml"), survey) == []
    survey.documents["c"]["tpu"]["pci"] = [{"address": "0000:01:00.0", "driver": "apex"}]
    assert ("c", "runtime", "NO_LIBRARY") in failing(load(tmp_path / "other.yml"), survey)


def test_a_second_interface_in_the_clusters_subnet(cluster: Cluster, survey: Survey) -> None:
    """Bootstrap refuses it; with a default route it may be the admin's way in, and is let be by both."""
    network = survey.documents["c"]["network"]
    network["interfaces"]["usb0"] = {"state": "up", "addresses": ["10.0.0.200/28"]}
    assert failing(cluster, survey) == [], "a survey that does not say which interfaces lead out"
    network["onward"] = ["wlan0"]
    (finding,) = [each for each in health.judge(cluster, survey) if not each.ok]
    assert (finding.name, finding.because) == ("c network: OVERLAP", "")
    assert (
        finding.cause.startswith("usb0 10.0.0.200/28 is in cluster_subnet (10.0.0.0/24)") and "usb0" in finding.remedy
    )
    network["onward"] = ["usb0"]
    assert failing(cluster, survey) == []
    network["onward"] = []
    network["interfaces"]["usb0"]["addresses"] = ["10.0.1.200/24", "10.0.0.200/16", "nonsense"]
    assert failing(cluster, survey) == []


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("No space left on device", "du -xh /tmp"),
        ("Disk quota exceeded", "du -xh /tmp"),
        ("/tmp/clusteradm-probe-x: Permission denied", "chmod 1777 /tmp"),
        ("/tmp/clusteradm-probe-x: Read-only file system", "remount,rw"),
    ],
)
def test_a_tmp_that_the_cluster_user_cannot_write_to(cluster: Cluster, survey: Survey, error: str, remedy: str) -> None:
    """What comes of it is not for bootstrap: mpirun that does not start."""
    survey.documents["c"]["system"]["tmp"] = {"ok": False, "error": error}
    assert survey.cluster is not None
    survey.cluster["hello"] = {"ok": False, "said": ["h"], "wrote": ["h"], "error": "orted died"}
    survey.cluster["apart"] = {"c": {"ok": False, "said": [], "error": "session directory"}}
    survey.cluster["hosts"] = ["h", "c"]
    found = {each.name: each for each in health.judge(cluster, survey) if not each.ok}
    assert found["c disk: TMP"].because == "" and remedy in found["c disk: TMP"].remedy
    assert found["c mpi: NO_START"].because == "c disk: TMP"
    survey.cluster["hello"] = {"ok": False, "said": ["c", "h"], "wrote": ["c", "h"], "error": "PMIX ERROR"}
    found = {each.name: each for each in health.judge(cluster, survey) if not each.ok}
    assert found["h mpi: NO_MESSAGES"].because == "c disk: TMP", "a rank that ends for want of it ends all"
    survey.documents["c"]["system"]["tmp"] = {"ok": True, "free": 1 << 20}
    (small,) = [each for each in health.judge(cluster, survey) if each.state == "TMP"]
    assert "1.0 MB free" in small.cause and "du -xh /tmp" in small.remedy
    survey.documents["c"]["system"]["tmp"] = {"ok": False, "error": "there is no user cluster here: run it"}
    assert "c disk: TMP" not in {each.name for each in health.judge(cluster, survey)}


def test_a_share_on_a_file_system_without_handles(cluster: Cluster, survey: Survey) -> None:
    survey.documents["h"]["export"] = {**SERVES, "exports": False, "error": "NFS4ERR_NOENT", "handles": False}
    (finding,) = [each for each in health.judge(cluster, survey) if not each.ok]
    assert finding.name == "h export: NO_HANDLES" and "cluster_shared" in finding.remedy
    survey.documents["h"]["export"]["handles"] = True
    assert failing(cluster, survey) == [("h", "export", "NOT_EXPORTED")]


def test_a_cable_is_told_before_the_address_that_went_with_it(cluster: Cluster, survey: Survey) -> None:
    survey.documents["c"]["network"]["interfaces"]["eth0"] = {"state": "down", "addresses": []}
    assert failing(cluster, survey) == [("c", "network", "DOWN")]


def test_hosts_behind_the_head(survey: Survey, tmp_path: Path) -> None:
    jump = "c: {cluster_ip: 10.0.0.2, ansible_ssh_common_args: -J alice@h}"
    (tmp_path / "inventory.yml").write_text(INVENTORY.replace("c: {cluster_ip: 10.0.0.2}", jump))
    silent = ("UNREACHABLE", "no answer", "check its power")
    found = health.judge(load(tmp_path / "inventory.yml"), Survey({}, None, {"h": silent, "c": silent}))
    assert [(each.host, each.because) for each in found] == [("h", ""), ("c", "h ssh: UNREACHABLE")]


@pytest.mark.parametrize("source", ["h:/cluster", "10.0.0.1:/cluster", "h.example.org:/cluster"])
def test_the_head_by_any_of_its_names(cluster: Cluster, survey: Survey, source: str) -> None:
    survey.documents["c"]["share"]["mount"]["source"] = source
    assert failing(cluster, survey) == []


SERVES: dict[str, Any] = {
    "answers": True,
    "exports": True,
    "error": None,
    "outsider": {"from": "127.0.0.1", "refused": True},
}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, None),
        ({"answers": False, "exports": None, "error": "connection refused", "outsider": None}, "NOT_SERVING"),
        ({"exports": False, "error": "NFS4ERR_NOENT", "outsider": None}, "NOT_EXPORTED"),
        ({"outsider": {"from": "192.168.0.2", "refused": False, "said": "NFS4_OK"}}, "OPEN"),
        ({"outsider": None}, None),
    ],
)
def test_the_heads_export(cluster: Cluster, survey: Survey, change: dict[str, Any], state: str | None) -> None:
    survey.documents["h"]["export"] = {**SERVES, **change}
    assert failing(cluster, survey) == ([("h", "export", state)] if state else [])
    (finding,) = [each for each in health.judge(cluster, survey) if each.check == "export"]
    assert (state is None) or (finding.cause and finding.remedy)


def test_a_server_that_died_is_the_one_thing_to_repair(cluster: Cluster, survey: Survey) -> None:
    survey.documents["h"]["export"] = {**SERVES, "answers": False, "error": "it takes connections, but says nothing"}
    survey.documents["c"]["share"]["use"] = {"ok": False, "error": "no answer within 4 s", "timeout": True}
    found = [each for each in health.judge(cluster, survey) if not each.ok]
    assert [(each.name, each.because) for each in found] == [
        ("h export: NOT_SERVING", ""),
        ("c nfs: STALE", "h export: NOT_SERVING"),
    ]


def fit(cluster: Cluster, survey: Survey) -> dict[str, tuple[health.Tpu, ...]]:
    return health.slots(survey, health.judge(cluster, survey))


def test_where_a_job_may_put_ranks(cluster: Cluster, survey: Survey) -> None:
    assert fit(cluster, survey) == {"h": (), "c": ()}
    survey.documents["c"]["share"]["use"] = {"ok": False, "timeout": True}
    survey.documents["c"]["system"]["failed_units"] = ["x.service"]
    assert fit(cluster, survey) == {"h": ()}, "a rank there would wait for the share for ever"
    survey.documents["c"]["share"] = survey.documents["h"]["share"] | {"mount": None}
    assert fit(cluster, survey) == {"h": ()}
    survey.documents["c"]["share"] = {"error": "no answer within 8 s"}
    assert fit(cluster, survey) == {"h": ()}
    del survey.documents["c"]["share"]
    assert fit(cluster, survey) == {"h": (), "c": ()}, "what was not asked is nobody's fault"


@pytest.mark.parametrize(
    ("login", "hello", "state"),
    [
        ({"ok": False, "error": "Permission denied"}, {}, "NO_LOGIN"),
        ({"ok": True}, {"said": ["h"], "wrote": ["h"], "error": "no route"}, "NO_START"),
        ({"ok": True}, {"said": ["c", "h"], "wrote": ["h"]}, "OTHER_SHARE"),
    ],
)
def test_mpi(cluster: Cluster, survey: Survey, login: dict[str, Any], hello: dict[str, Any], state: str) -> None:
    assert survey.cluster is not None
    survey.cluster["login"]["c"] = login
    survey.cluster["hello"].update(hello)
    assert failing(cluster, survey) == [("c", "mpi", state)]


def test_who_was_not_asked_to_write_did_not_write_elsewhere(cluster: Cluster, survey: Survey) -> None:
    assert survey.cluster is not None
    survey.cluster["hello"]["wrote"] = ["h"]
    survey.cluster["writers"] = ["h"]
    assert failing(cluster, survey) == []


def test_a_silent_host_is_a_finding(cluster: Cluster, survey: Survey) -> None:
    del survey.documents["c"]
    survey.errors["c"] = ("UNREACHABLE", "no answer in time", "check its power")
    assert failing(cluster, survey) == [("c", "ssh", "UNREACHABLE")]


def test_a_cluster_probe_that_failed_is_a_finding(cluster: Cluster, survey: Survey) -> None:
    survey.cluster, survey.cluster_error = None, "no answer within 180 s"
    assert failing(cluster, survey) == [("h", "mpi", "FAILED")]


def keep(cluster: Cluster, survey: Survey, path: Path) -> Path:
    saved.write(path, saved.document(cluster, survey))
    return path


def test_replay(cluster: Cluster, survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keep(cluster, survey, tmp_path / "saved.json")
    where = ["-i", str(cluster.path), "--from", str(path)]
    assert main(["health", *where]) == 0
    assert "Edge TPUs OK, ok\n" in capsys.readouterr().out
    survey.documents["c"]["share"]["mount"] = None
    keep(cluster, survey, path)
    assert main(["health", *where, "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema_version"] == 1 and answer["summary"]["error"] == 1
    survey.errors["c"] = ("UNREACHABLE", "gone", "check its power")
    keep(cluster, survey, path)
    assert main(["health", *where]) == 4
    assert "remedy:" in capsys.readouterr().out


def test_a_survey_of_other_hosts_is_no_all_clear(
    cluster: Cluster, survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey.documents = {"elsewhere": survey.documents["c"]}
    keep(cluster, survey, tmp_path / "saved.json")
    assert main(["health", "-i", str(cluster.path), "--from", str(tmp_path / "saved.json")]) == 2
    assert "it is of elsewhere" in capsys.readouterr().err


def test_limit_holds_for_a_saved_survey(cluster: Cluster, survey: Survey, tmp_path: Path) -> None:
    survey.documents["c"]["share"]["mount"] = None
    keep(cluster, survey, tmp_path / "saved.json")
    where = ["health", "-i", str(cluster.path), "--from", str(tmp_path / "saved.json")]
    assert [main([*where, "--limit", name]) for name in ("h", "c", "all")] == [0, 3, 3]


def test_a_survey_that_lacks_a_section(cluster: Cluster, survey: Survey, tmp_path: Path) -> None:
    del survey.documents["c"]["tpu"]
    keep(cluster, survey, tmp_path / "saved.json")
    with pytest.raises(InputErrors, match="not a survey"):
        saved.read(tmp_path / "saved.json")


def test_a_place_that_cannot_be_written(cluster: Cluster, survey: Survey, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        keep(cluster, survey, tmp_path / "no" / "saved.json")


def test_what_asks_for_the_same_is_told_once(
    cluster: Cluster, survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for document in survey.documents.values():
        document["runtime"]["mpi4py"] = None
    keep(cluster, survey, tmp_path / "saved.json")
    assert main(["health", "-i", str(cluster.path), "--from", str(tmp_path / "saved.json")]) == 3
    told = capsys.readouterr().out
    assert "h,c  runtime: NO_MPI4PY" in told and told.count("remedy:") == 1


@pytest.mark.parametrize("change", [{"cluster_subnet": "x"}, {"cluster_tpus": "8 of them"}, {"cluster_ip": None}])
def test_a_saved_inventory_that_makes_no_sense(
    cluster: Cluster, survey: Survey, tmp_path: Path, change: dict[str, Any]
) -> None:
    body = saved.document(cluster, survey)
    body["inventory"]["hosts"]["c"]["vars"] |= change
    saved.write(tmp_path / "saved.json", body)
    with pytest.raises(InputErrors, match="not a survey"):
        saved.read(tmp_path / "saved.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"documents": 1, "cluster": 2, "errors": 3}'])
def test_what_is_no_saved_survey(tmp_path: Path, text: str) -> None:
    path = tmp_path / "saved.json"
    path.write_text(text)
    with pytest.raises(InputErrors, match="not a survey"):
        saved.read(path)


def test_a_document_brings_the_inventory_that_it_is_judged_by(
    cluster: Cluster, survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keep(cluster, survey, tmp_path / "saved.json")
    monkeypatch.delenv("CLUSTERADM_INVENTORY", raising=False)
    cluster.path.unlink()
    found, itself = saved.read(path)
    assert itself is not None and health.judge(itself, found) == health.judge(cluster, survey)
    assert [main(["health", "--from", str(path), "--limit", limit]) for limit in ("all", "head", "c")] == [0, 0, 0]


def test_what_the_inventory_keeps_to_itself(tmp_path: Path, survey: Survey) -> None:
    secret = "    c: {ansible_host: 192.168.7.9, ansible_user: alice, ansible_become_password: 'hunter2'}\n"
    (tmp_path / "inventory.yml").write_text(INVENTORY + "  hosts:\n" + secret)
    text = json.dumps(saved.document(load(tmp_path / "inventory.yml"), survey))
    assert not [word for word in ("192.168.7.9", "alice", "hunter2") if word in text]


def test_a_survey_of_before_versions_is_judged_by_an_inventory(
    cluster: Cluster, survey: Survey, tmp_path: Path
) -> None:
    body = {name: saved.document(cluster, survey)[name] for name in ("documents", "cluster", "errors", "cluster_error")}
    saved.write(tmp_path / "old.json", body)
    assert saved.read(tmp_path / "old.json")[1] is None
    assert main(["health", "-i", str(cluster.path), "--from", str(tmp_path / "old.json")]) == 0


def test_a_document_of_a_newer_program(
    cluster: Cluster, survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.write(tmp_path / "new.json", {**saved.document(cluster, survey), "schema_version": 7})
    assert main(["health", "--from", str(tmp_path / "new.json")]) == 2
    told = capsys.readouterr().err
    assert "schema_version 7" in told and "update clusteradm" in told


@pytest.mark.parametrize("version", ["2", None, [1], {}])
def test_a_version_that_is_none(cluster: Cluster, survey: Survey, tmp_path: Path, version: Any) -> None:
    saved.write(tmp_path / "saved.json", {**saved.document(cluster, survey), "schema_version": version})
    with pytest.raises(InputErrors, match="not a survey"):
        saved.read(tmp_path / "saved.json")


@pytest.mark.parametrize(
    ("declared", "cards", "states"),
    [(1, 1, []), (1, 2, ["SURPLUS"]), (0, 1, ["SURPLUS"]), (None, 1, ["UNDECLARED"]), (None, 0, []), (2, 1, [])],
)
def test_expect(cluster: Cluster, survey: Survey, declared: int | None, cards: int, states: list[str]) -> None:
    cluster.hosts["c"].vars["cluster_tpus"] = declared  # type: ignore[index]
    survey.documents["c"]["tpu"]["pci"] = [{"address": f"0000:0{number}:00.0"} for number in range(cards)]
    found = list(expect.judge(cluster, survey.documents))
    assert [(finding.subject, finding.state) for finding in found] == [("c", state) for state in states]
    assert all(finding.remedy for finding in found)


def test_expect_of_a_probe_that_failed(cluster: Cluster, survey: Survey) -> None:
    survey.documents["c"]["tpu"] = {"error": "OSError"}
    del survey.documents["h"]
    assert list(expect.judge(cluster, survey.documents)) == []
