"""Allocations of Slurm's: what is asked for, what its answers mean, and what a job does with each of its states."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clusteradm.node.job import allocation, allocation_end, granted, launch
from clusteradm.node.job.allocation import Allocation
from clusteradm.node.job.allocation_end import Cancelled, NoAllocation
from clusteradm.node.slurm import nodes, programs
from clusteradm.node.slurm.nodes import Node
from clusteradm.node.slurm.programs import SlurmError
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Slot, SlurmOrder, StoredSpec
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

ONE, TWO = "0000:01:00.0", "0000:02:00.0"
JOB = "20260101-000000-abcdef"
# Of Slurm 22.05.8, cut.
RUNNING = (
    "JobId=7 JobName=clusteradm-x UserId=cluster(6600) JobState=RUNNING Reason=None Requeue=1 Restarts={restarts} "
    "NodeList=head,w1 BatchHost=head NumNodes=2 JOB_GRES=tpu:3   Nodes=head CPU_IDs=0 Mem=0 GRES=tpu:1(IDX:1)   "
    "Nodes=w1 CPU_IDs=0-1 Mem=0 GRES=gpu:2(IDX:0-1),tpu:coral:2(IDX:0,2) MinCPUsNode=1 "
    "Comment=Nodes=x TresPerNode=gres:tpu:1"
)
PENDING = "JobId=7 JobState=PENDING Reason={reason} Restarts={restarts} NodeList=(null)"


@pytest.fixture
def spec(tmp_path: Path) -> StoredSpec:
    model = ModelFile("m", 1, "/srv/cluster/models/m/1/model.tflite", "0" * 64, InputForm("uint8", (1, 4)))
    slots = (Slot("head", (ONE,)), Slot("w1", (ONE,)), Slot("w2", (ONE,)))
    return StoredSpec(model, "head", slots, None, 5, "/usr/bin/python3", JOB, 4, str(tmp_path), SlurmOrder())


def known(*names: str, tpus: int = 1, cpus: int = 4) -> list[Node]:
    return [Node(name, cpus, tpus, False, "", 0, "") for name in names]


def option(words: Sequence[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


def test_the_tpus_of_a_running_job() -> None:
    grant = allocation.read(RUNNING.format(restarts=2))
    assert grant.state == "RUNNING" and grant.restarts == 2
    assert grant.tpus == {"head": (1,), "w1": (0, 2)}


def test_a_waiting_job_has_none_and_says_why() -> None:
    grant = allocation.read(PENDING.format(reason="Resources", restarts=0))
    assert (grant.state, grant.reason, grant.tpus) == ("PENDING", "Resources", {})
    with pytest.raises(SlurmError, match="nothing of the job's state"):
        allocation.read("slurm_load_jobs error: x")


def test_numbers_of_slurm_are_bounded() -> None:
    line = RUNNING.format(restarts="x").replace("IDX:1)", "IDX:0-99999999)")
    grant = allocation.read(line)
    assert grant.restarts == 0 and len(grant.tpus["head"] or ()) == 256


SAID = """\
device apex_0 0000:05:00.0
device apex_1 0000:04:00.0
slurmd: Gres Name=tpu Type=(null) Count=1 Index=1 ID=7696500 File=/dev/apex_1 (null)
slurmd: Gres Name=tpu Type=(null) Count=1 Index=0 ID=7696500 File=/dev/apex_0 (null)
here
"""


def test_a_number_is_of_slurmds_list_of_devices() -> None:
    assert granted.tpus_of(SAID, (0,)) == ["0000:04:00.0"]
    assert granted.tpus_of(SAID, (1,)) == ["0000:05:00.0"]
    assert granted.tpus_of(SAID, None) == ["0000:04:00.0", "0000:05:00.0"]
    assert granted.tpus_of(SAID, (7,)) == []


def test_several_devices_of_a_site_are_in_one_line() -> None:
    devices = "device apex_0 0000:05:00.0\ndevice apex_2 0000:06:00.0\n"
    said = devices + "slurmd: Gres Name=tpu Count=3 File=/dev/apex_[0-1,2] x\n"
    assert granted.tpus_of(said, (0, 1, 2)) == ["0000:05:00.0", "0000:06:00.0"]
    assert granted.tpus_of(said.replace("0-1,2", "0-99999,x,-"), (2,)) == ["0000:06:00.0"]


def test_without_that_list_it_is_that_of_the_device() -> None:
    said = "".join(line for line in SAID.splitlines(keepends=True) if "slurmd" not in line)
    assert granted.tpus_of(said, (0,)) == ["0000:05:00.0"]
    assert granted.tpus_of("device apex_0 ../../etc\n", (0,)) == []


def test_an_accelerator_on_usb_is_named_by_the_file_that_stands_for_it() -> None:
    # Its Index is that of another one.
    told = "slurmd: Gres Name=tpu Type=(null) Count=1 Index=2 ID=7 File=/opt/clusteradm/slurm/tpus/usb:1-2 (null)\n"
    # It has its firmware, and is on the other bus of its port; another one is in a hub.
    said = SAID.replace("here\n", "usb 2-2 usb1-port2\nusb 1-3.4 \n" + told + "here\n")
    assert granted.tpus_of(said, (0, 2)) == ["0000:04:00.0", "usb:1-2"]
    assert granted.tpus_of(said, None) == ["0000:04:00.0", "0000:05:00.0", "usb:1-2", "usb:1-3.4"]
    assert granted.tpus_of(said.replace("usb 2-2 usb1-port2\n", ""), (2,)) == []


def test_hosts_are_asked_at_once_and_what_they_say_is_bounded(
    spec: StoredSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = tmp_path / "answer"
    answer.write_text(SAID.replace("0000:04:00.0", ONE))

    def asked(program: str, *hosts: str) -> tuple[list[Slot], list[str]]:
        monkeypatch.setattr(launch, "SSH", ["sh", "-c", program, "sh"])
        return granted.slots(replace(spec, head="h"), dict.fromkeys(hosts))

    much = f"[ $1 = w1 ] || head -c {granted._MOST_BYTES} /dev/zero; cat {answer}"
    assert asked(much, "w1", "w2") == ([Slot("w1", (ONE,))], ["w1"])
    monkeypatch.setattr(granted, "_SECONDS", 0.2)
    for program in ("echo here; exit 1", "yes", "exec sleep 60"):
        assert asked(program, "w1") == ([], [])


def test_by_default_what_is_free_of_the_hosts(spec: StoredSpec) -> None:
    words = allocation.words_for(spec, SlurmOrder(), known("head", "w1", "w2", "w3"))
    assert words[0] == "sbatch" and option(words, "--job-name") == "clusteradm-" + JOB
    assert option(words, "--nodes") == "1-3" and option(words, "--gres") == "tpu:1"
    assert option(words, "--exclude") == "w3"  # not one of the job's
    assert "--requeue" in words and "--exclusive" not in words
    assert option(words, "--partition") is None and option(words, "--account") is None


def test_all_at_once_and_where_the_user_says(spec: StoredSpec) -> None:
    order = SlurmOrder("tpu", "lab", whole=True)
    words = allocation.words_for(spec, order, known("head", "w1", "w2"))
    assert option(words, "--nodes") == "3" and option(words, "--exclude") is None
    assert option(words, "--partition") == "tpu" and option(words, "--account") == "lab"


def test_no_more_hosts_than_ranks(spec: StoredSpec) -> None:
    two = tuple(Slot(host, (ONE, TWO)) for host in ("head", "w1", "w2"))
    words = allocation.words_for(
        replace(spec, slots=two, ranks=3), SlurmOrder(), known("head", "w1", "w2", tpus=2, cpus=1)
    )
    assert option(words, "--nodes") == "1-2" and option(words, "--gres") == "tpu:2"
    assert option(words, "--cpus-per-task") == "1"  # as many as the smallest host has


@pytest.mark.parametrize("there", [known("head", "w1", "w2", tpus=0), [*known("head", "w1"), *known("w2", tpus=0)]])
def test_whole_hosts_where_slurm_does_not_count_tpus(spec: StoredSpec, there: list[Node]) -> None:
    words = allocation.words_for(spec, SlurmOrder(), there)
    assert "--exclusive" in words and "--gres" not in words


def test_whole_hosts_where_they_have_different_numbers(spec: StoredSpec) -> None:
    mixed = replace(spec, slots=(Slot("head", (ONE,)), Slot("w1", (ONE, TWO))))
    words = allocation.words_for(mixed, SlurmOrder(), known("head", "w1", tpus=2))
    assert "--exclusive" in words and option(words, "--nodes") == "1-2"


def test_whole_hosts_where_a_tpu_of_each_is_ill(spec: StoredSpec) -> None:
    """By number, Slurm could give that one."""
    words = allocation.words_for(spec, SlurmOrder(), known("head", "w1", "w2", tpus=2))
    assert "--exclusive" in words and "--gres" not in words


def test_a_pipeline_has_as_many_hosts_as_its_stages_need(spec: StoredSpec) -> None:
    segment = SegmentFile("/srv/segment.tflite", "1", (), ())
    whole = replace(spec.model, pipeline=Pipeline((segment,) * 3, ()))
    cut = replace(spec, model=whole)
    assert option(allocation.words_for(cut, SlurmOrder(), known("head", "w1", "w2")), "--nodes") == "3"
    two = tuple(Slot(host, (ONE, TWO)) for host in ("head", "w1", "w2"))
    words = allocation.words_for(replace(cut, slots=two), SlurmOrder(), known("head", "w1", "w2", tpus=2))
    assert option(words, "--nodes") == "2-3"


def test_a_long_answer_of_a_host_takes_no_long_time() -> None:
    said = SAID + "\n" + "Name=tpu " * 20000 + "Index=1 " * 20000
    assert granted.tpus_of(said, (0,)) == ["0000:04:00.0"]


def test_cpus_are_no_tpus(spec: StoredSpec) -> None:
    words = allocation.words_for(replace(spec, slots=(Slot("w1", (None,)),)), SlurmOrder(), known("w1"))
    assert "--exclusive" not in words and "--gres" not in words and option(words, "--nodes") == "1"


def test_hosts_that_slurm_does_not_know(spec: StoredSpec) -> None:
    with pytest.raises(NoAllocation, match="none of the job's hosts in partition big: head, w1, w2; its nodes: n1, n2"):
        allocation.words_for(spec, SlurmOrder("big"), known("n1", "n2"))


class Controller:
    """A Slurm whose answers a test gives; what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[list[str]]()
        self.before = ""
        self.now = 0.0
        monkeypatch.setattr(programs, "ask", self.ask)
        monkeypatch.setattr(programs, "there", lambda: True)
        monkeypatch.setattr(nodes, "ask", lambda partition=None: known("head", "w1", "w2"))
        monkeypatch.setattr(granted, "slots", self.hosts)
        monkeypatch.setattr(allocation.time, "sleep", self.sleep)
        monkeypatch.setattr(allocation.time, "monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def hosts(self, spec: StoredSpec, tpus: dict[str, object]) -> tuple[list[Slot], list[str]]:
        return [slot for slot in spec.slots if slot.host in tpus], list(tpus)

    def ask(self, words: Sequence[str], stdin: str = "", seconds: float = 0.0) -> str:
        self.asked.append(list(words))
        if words[0] == "squeue":
            return self.before
        if words[0] == "sbatch":
            assert stdin.startswith("#!/bin/sh\n")
            subprocess.run(["sh", "-n"], input=stdin, text=True, check=True)
            return "7;cluster\n"
        if words[:3] == ["scontrol", "show", "job"]:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer.startswith("error"):
                raise SlurmError(answer)
            return answer
        return ""

    def did(self, program: str) -> list[list[str]]:
        return [words for words in self.asked if words[0] == program]


class Job:
    """An allocation, and what it has said."""

    def __init__(self, spec: StoredSpec) -> None:
        self.log: list[str] = []
        self.queued: list[str] = []
        self.allocation = Allocation(spec, SlurmOrder(), self.log.append, self.queued.append)


def running(restarts: int = 0) -> str:
    return RUNNING.format(restarts=restarts)


def pending(reason: str, restarts: int = 0) -> str:
    return PENDING.format(reason=reason, restarts=restarts)


def ended(state: str) -> str:
    return f"JobId=7 JobState={state} Reason=None Restarts=0"


def test_it_is_asked_for_and_waited_for(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, pending("Priority"), pending("Resources"), ended("CONFIGURING"), running())
    job = Job(spec)
    assert [slot.host for slot in job.allocation.slots()] == ["head", "w1"]
    assert job.queued == ["7 PENDING (Priority)", "7 PENDING (Resources)", "7 CONFIGURING"]
    assert len(slurm.did("sbatch")) == 1 and job.allocation.said == "7 RUNNING"


def test_one_that_is_there_is_taken_up(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running())
    slurm.before = "7\n"
    job = Job(spec)
    job.allocation.slots()
    assert job.allocation.number == 7 and slurm.did("sbatch") == []


def test_a_requeued_one_is_lost_and_then_taken_up(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running(), running(), pending("BeginTime", 1), pending("BeginTime", 1), running(1))
    job = Job(spec)
    job.allocation.slots()
    slurm.now += 60
    assert job.allocation.lost() is None
    assert job.allocation.lost() is None  # not asked again at once
    slurm.now += 60
    assert job.allocation.lost() == "Slurm's job 7 is no more in its allocation: PENDING (BeginTime)"
    assert job.allocation.slots()
    assert [words for words in slurm.did("scontrol") if words[1] == "update"] == [
        ["scontrol", "update", "JobId=7", "StartTime=now"]
    ]
    assert len(slurm.did("sbatch")) == 1


def test_requeued_between_two_looks(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running(), running(1))
    job = Job(spec)
    job.allocation.slots()
    slurm.now += 60
    assert job.allocation.lost() is not None


def test_a_cancelled_one_cancels_the_job(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    Controller(monkeypatch, ended("CANCELLED"))
    with pytest.raises(Cancelled, match=r"cancelled in Slurm \(job 7 there\)"):
        Job(spec).allocation.slots()


@pytest.mark.parametrize("end", [ended("TIMEOUT"), ended("NODE_FAIL"), ended("PREEMPTED"), "error: Invalid job id"])
def test_one_that_has_ended_is_followed_by_another(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    slurm = Controller(monkeypatch, running(), end, running())
    job = Job(spec)
    job.allocation.slots()
    assert job.allocation.slots()
    assert len(slurm.did("sbatch")) == 2 and "another one is asked for" in job.log[1]


def test_but_not_for_ever(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, ended("FAILED"))
    with pytest.raises(NoAllocation, match=r"3 jobs of Slurm's have ended before their ranks began: 7 FAILED"):
        Job(spec).allocation.slots()
    assert len(slurm.did("sbatch")) == 3


def test_a_controller_that_is_away_is_waited_for_an_hour(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, "error: Unable to contact slurm controller")
    job = Job(spec)
    with pytest.raises(NoAllocation, match="Slurm does not answer: error: Unable to contact"):
        job.allocation.slots()
    assert 3600 < slurm.now < 3700
    assert set(job.queued) == {"error: Unable to contact slurm controller"}


def test_a_controller_that_is_away_when_it_is_asked_for_nodes_is_no_job_that_has_ended(
    spec: StoredSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Controller(monkeypatch, running())
    tries = iter([SlurmError("sinfo: error: Unable to contact")] * 5)

    def ask(*_: object) -> list[Node]:
        for error in tries:
            raise error
        return known("head", "w1", "w2")

    monkeypatch.setattr(nodes, "ask", ask)
    assert Job(spec).allocation.slots() and len(slurm.did("sbatch")) == 1


def test_the_ranks_do_without_the_controller(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running(), "error: Unable to contact slurm controller")
    job = Job(spec)
    job.allocation.slots()
    slurm.now += 60
    assert job.allocation.lost() is None


def test_hosts_without_a_tpu_for_it_are_not_held_for_long(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running())
    monkeypatch.setattr(granted, "slots", lambda spec, tpus: ([], ["w1"]))
    with pytest.raises(NoAllocation, match=r"job 7 has no TPU that was fit .*/sys/class/apex, on w1"):
        Job(spec).allocation.slots()
    assert 60 < slurm.now < 90


def test_a_refusal_is_the_jobs_failure(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running())

    def refuse(words: Sequence[str], stdin: str = "", seconds: float = 0.0) -> str:
        if words[0] == "sbatch":
            raise SlurmError("sbatch: error: invalid account")
        return slurm.ask(words, stdin)

    monkeypatch.setattr(programs, "ask", refuse)
    with pytest.raises(NoAllocation, match="Slurm refuses the job: sbatch: error: invalid account"):
        Job(spec).allocation.slots()


def test_it_is_given_back_as_complete(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Controller(monkeypatch, running(), running(), ended("COMPLETED"))
    job = Job(spec)
    job.allocation.slots()
    job.allocation.give_back(allocation_end.COMPLETE)
    assert slurm.did("scancel") == [["scancel", "--batch", "--signal", "USR1", "7"]]


def test_a_holder_that_does_not_end_is_cancelled(spec: StoredSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host may be off."""
    slurm = Controller(monkeypatch, running())
    job = Job(spec)
    job.allocation.slots()
    slurm.before = "7\n"
    job.allocation.give_back(allocation_end.COMPLETE)
    signal, cancel = slurm.did("scancel")
    assert "--signal" in signal and cancel[-2:] == ["--name", "clusteradm-" + JOB] and "--user" in cancel


def test_the_holder_ends_when_nobody_holds_it(spec: StoredSpec, tmp_path: Path) -> None:
    held = tmp_path / "no such file"
    script = allocation._HOLDER % (JOB, held, 900)
    done = subprocess.run(["sh"], input=script, text=True, timeout=60, check=False)
    assert done.returncode == 1


def test_hold_touches_a_file_and_follows_no_link(spec: StoredSpec, tmp_path: Path) -> None:
    job = Job(spec)
    job.allocation.hold()
    job.allocation._end.set()
    assert stat.S_IMODE((tmp_path / "held").stat().st_mode) & 0o777 == 0o644 & ~_umask()
    (tmp_path / "held").unlink()
    (tmp_path / "held").symlink_to(tmp_path / "victim")
    other = Job(spec)
    other.allocation.hold()  # what a board has put there is not followed, and is no reason to fail
    other.allocation._end.set()
    assert not (tmp_path / "victim").exists()


def _umask() -> int:
    found = re.search(r"^Umask:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1], 8)


def test_mpirun_starts_its_daemons_by_srun(spec: StoredSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Controller(monkeypatch, running())
    job = Job(spec)
    job.allocation.slots()
    words = job.allocation.environment(str(tmp_path))
    agent = tmp_path / "srun"
    assert (
        words[0] == "env" and f"OMPI_MCA_plm_rsh_agent={agent}" in words and f"PRTE_MCA_plm_ssh_agent={agent}" in words
    )
    programs_folder = tmp_path / "bin"
    programs_folder.mkdir()
    (programs_folder / "srun").write_text('#!/bin/sh\nfor each; do echo "<$each>"; done; env\n')
    (programs_folder / "srun").chmod(0o755)
    env = {"PATH": f"{programs_folder}:/usr/bin:/bin", "OMPI_MCA_plm_rsh_agent": str(agent), "OTHER": "1"}
    called = [str(agent), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "w1", "PATH=/x ;", "orted", "-mca x 'y z'"]
    said = subprocess.run(called, env=env, capture_output=True, text=True, check=True).stdout
    assert "<--jobid=7>\n" in said and "<--nodelist=w1>\n" in said and "<--overlap>\n" in said
    # A site may have a task bound to one processor, and given to one of its MPI's libraries: not mpirun's daemon.
    assert "<--cpu-bind=none>\n" in said and "<--mpi=none>\n" in said
    assert "<sh>\n<-c>\n<PATH=/x ; orted -mca x 'y z'>\n" in said
    assert "OTHER=1" in said and "plm_rsh_agent" not in said.split("OTHER")[1]
