"""What Slurm's programs say, read: text of anybody's, in any form; and the drains of both, agreed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from clusteradm.node.slurm import nodes, programs
from clusteradm.node.slurm.nodes import Node
from clusteradm.node.spec.wire.fleet import DrainEntry

# sinfo --noheader --Node --format '%N|%c|%G|%T|%u|%H|%E' of Slurm 22.05.8.
SINFO = """\
head|2|tpu:1|idle|Unknown|Unknown|none
w1|4|tpu:2(S:0-1)|drained|root|2026-11-27T03:23:42|a | b [c]
w2|2|(null)|idle*|Unknown|Unknown|none
w3|2|gpu:a:4,tpu:coral:8(S:0)|draining|alice|2026-11-27T03:23:42|clusteradm: fan (bob)
w1|4|tpu:2(S:0-1)|drained|root|2026-11-27T03:23:42|a | b [c]
"""


def test_nodes_of_sinfo() -> None:
    found = {node.name: node for node in nodes.read(SINFO)}
    assert list(found) == ["head", "w1", "w2", "w3"]  # a node of two partitions is there once
    assert [(node.cpus, node.tpus, node.drained) for node in found.values()] == [
        (2, 1, False),
        (4, 2, True),
        (2, 0, False),
        (2, 8, True),
    ]
    assert found["w1"].reason == "a | b [c]" and found["w1"].user == "root"
    assert 1_795_000_000 < found["w1"].since < 1_796_000_000 and found["head"].since == 0


@pytest.mark.parametrize("text", ["", "\n\n", "|||||||", "w1", "w1|2|tpu:1|idle", "slurm_load_node error: x"])
def test_what_is_no_line_of_sinfo_is_passed_over(text: str) -> None:
    assert nodes.read(text) == []


def test_a_node_with_odd_values_is_a_node_all_the_same() -> None:
    (node,) = nodes.read("w1|many|tpu:99999999999|DRAINED?|x|0000-00-00T00:00:00|" + "r" * 5000)
    assert node.cpus == 1 and node.tpus == 0 and node.since == 0 and not node.drained and len(node.reason) == 300


def test_fields_of_scontrol() -> None:
    line = "JobId=5 JobName=t JobState=RUNNING Account=(null) Comment=a=b JobState=PENDING Empty= "
    assert programs.field(line, "JobState") == "RUNNING"  # the first: what follows may be somebody's text
    assert programs.field(line, "Comment") == "a=b"
    assert programs.field(line, "Account") is None and programs.field(line, "Empty") is None
    assert programs.field(line, "State") is None


def test_plain_names_need_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(programs, "ask", lambda words, **_: asked.append(words) or "w1\nw2\nhead\n")
    assert programs.hosts("head,w1") == ["head", "w1"] and asked == []
    assert programs.hosts("w[1-2],head") == ["w1", "w2", "head"]
    assert asked == [["scontrol", "show", "hostnames", "w[1-2],head"]]


def test_a_program_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
        if words[0] == "slow":
            raise subprocess.TimeoutExpired(words, 1)
        if words[0] == "missing":
            raise FileNotFoundError(2, "No such file or directory")
        env = more["env"]
        assert isinstance(env, dict)
        assert "SBATCH_PARTITION" not in env and env["SLURM_CONF"] == "/x" and env["SLURM_TIME_FORMAT"] == "standard"
        return subprocess.CompletedProcess(words, 1, b"", b"sbatch: error: no\n such  thing\n")

    monkeypatch.setenv("SBATCH_PARTITION", "mine")
    monkeypatch.setenv("SLURM_CONF", "/x")
    monkeypatch.setattr(subprocess, "run", run)
    for word, said in (
        ("sbatch", "sbatch: sbatch: error: no such thing"),
        ("slow", "slow gives no answer in 20 s: does slurmctld run?"),
        ("missing", "missing: No such file or directory"),
    ):
        with pytest.raises(programs.SlurmError) as failure:
            programs.ask([word])
        assert str(failure.value) == said


def test_whose_slurm_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "slurm.conf"
    monkeypatch.setattr(programs, "CONFIGURATION", str(conf))
    monkeypatch.setattr(programs, "there", lambda: True)
    assert not programs.ours()
    conf.write_text("ClusterName=site\n# clusteradm bootstrap --playbook slurm.yml\n")
    assert not programs.ours()
    conf.write_text("# Written by clusteradm bootstrap --playbook slurm.yml: the next run puts it back.\n")
    assert programs.ours()
    monkeypatch.setattr(programs, "there", lambda: False)
    assert not programs.ours()


class Slurm:
    """A controller with these nodes; what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *there: Node, ours: bool = True) -> None:
        self.told: list[list[str]] = []
        monkeypatch.setattr(programs, "there", lambda: True)
        monkeypatch.setattr(programs, "ours", lambda: ours)
        monkeypatch.setattr(nodes, "ask", lambda **_: list(there))
        monkeypatch.setattr(programs, "ask", lambda words, **_: self.told.append(words[2:]) or "")


def node(name: str, tpus: int = 1, reason: str = "") -> Node:
    return Node(name, 2, tpus, bool(reason), "root", 7, reason or "none")


BROKEN = DrainEntry("fan", "alice", 5)


def test_what_is_drained_here_is_drained_there(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, node("w1"), node("w2", tpus=2), node("w3", tpus=2))
    drains = {"w1": BROKEN, "w2:0000:01:00.0": BROKEN, "w3:0000:01:00.0": BROKEN, "w3:0000:02:00.0": BROKEN}
    assert nodes.agree(drains, ()) == {}
    # w2 has a TPU in service.
    assert slurm.told == [
        ["NodeName=w1", "State=DRAIN", "Reason=clusteradm: fan (alice)"],
        ["NodeName=w3", "State=DRAIN", "Reason=clusteradm: fan (alice)"],
    ]


def test_a_usb_accelerator_is_one_of_slurms_tpus(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, node("w1", tpus=2), node("w2", tpus=2))
    drains = {"w1:usb:1-2": BROKEN, "w2:usb:1-2": BROKEN, "w2:0000:01:00.0": BROKEN}
    assert nodes.agree(drains, ()) == {}
    assert slurm.told == [["NodeName=w2", "State=DRAIN", "Reason=clusteradm: fan (alice)"]]


def test_what_is_no_longer_drained_here_is_returned_there(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, node("w1", reason="clusteradm: fan (alice)"), node("w2", reason="TPU: apex_0 is gone"))
    others = nodes.agree({}, ("w1",))
    assert slurm.told == [["NodeName=w1", "State=RESUME"]]
    assert others == {"w2": DrainEntry("TPU: apex_0 is gone", "Slurm (root)", 7)}


def test_what_slurm_has_drained_is_returned_by_undrain(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, node("w1", reason="maintenance"), node("w2", reason="maintenance"))
    assert list(nodes.agree({}, ("w1",))) == ["w2"]
    assert slurm.told == [["NodeName=w1", "State=RESUME"]]


def test_somebody_elses_slurm_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(monkeypatch, node("w1"), node("w2", reason="maintenance"), ours=False)
    assert list(nodes.agree({"w1": BROKEN}, ("w2",))) == ["w2"]
    assert slurm.told == []


def test_a_slurm_that_does_not_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> list[Node]:
        raise programs.SlurmError("no controller")

    Slurm(monkeypatch)
    monkeypatch.setattr(nodes, "ask", fail)
    assert nodes.agree({"w1": BROKEN}, ("w1",)) == {}
