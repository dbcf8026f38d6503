"""The probe of the TPUs on trees that a test made: what it reads, and that a missing file is an answer."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.probe import driver, pcie, tpu

REPOSITORY = Path(__file__).resolve().parents[3]
ME = pwd.getpwuid(os.geteuid()).pw_name


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def bridge(root: Path, address: str, **files: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    for name, text in {"vendor": "0x1b21", "device": "0x1182", "class": "0x060400", **files}.items():
        put(folder / name, text + "\n")


def test_bridges_and_what_is_behind_them(tmp_path: Path) -> None:
    bridge(tmp_path, "0000:00:01.0", secondary_bus_number="4", subordinate_bus_number="5")
    bridge(tmp_path, "0000:04:00.0", secondary_bus_number="5", subordinate_bus_number="5")
    # Linux 4.14 has no files for the bus numbers; they are in the configuration space (PCI-to-PCI bridge header).
    bridge(tmp_path, "0001:00:00.0")
    config = bytearray(64)
    config[0x18:0x1B] = bytes((0, 1, 255))
    (tmp_path / "sys/bus/pci/devices/0001:00:00.0/config").write_bytes(config)
    for name in ("0001:01:00.0", "0001:07:00.0"):
        put(tmp_path / "sys/bus/pci/devices" / name / "vendor", "0x1ac1")
    put(tmp_path / "sys/bus/pci/slots/3/address", "0000:05:00\n")
    found = {each["address"]: (each["secondary"], each["below"]) for each in pcie.bridges(str(tmp_path))}
    assert found == {
        "0000:00:01.0": (4, ["0000:04:00.0"]),
        "0000:04:00.0": (5, []),
        "0001:00:00.0": (1, ["0001:01:00.0", "0001:07:00.0"]),
    }
    assert pcie.slots(str(tmp_path)) == {"3": "0000:05:00"}


def test_vectors_of_a_card_and_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    for name, text in {"vendor": "0x1ac1", "device": "0x089a"}.items():
        put(folder / name, text + "\n")
    assert pcie.cards(str(tmp_path))[0]["vectors"] is None
    for number in range(13):
        put(folder / "msi_irqs" / str(40 + number), "msix\n")
    assert pcie.cards(str(tmp_path))[0]["vectors"] == 13
    assert pcie.vectors(str(tmp_path)) is None
    put(
        tmp_path / "sys/kernel/debug/irq/domains/VECTOR",
        "name:   VECTOR\nOnline bitmaps:        8\nGlobal available:   1391\nTotal allocated:     232\n",
    )
    assert pcie.vectors(str(tmp_path)) == {"free": 1391, "allocated": 232}


def test_the_kernels_log_on_apex_and_on_the_cards(tmp_path: Path) -> None:
    assert driver.kernel_log(str(tmp_path)) is None
    put(
        tmp_path / "dev/kmsg",
        "6,1,900,-;Linux version 6.1.0\n"
        "3,2,3100000,-;apex 0000:01:00.0: RAM did not enable within timeout (12000 ms)\n"
        " SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"
        "6,3,3200000,c;pci 0000:01:00.0: [1ac1:089a] type 00 class 0x0000ff\n"
        "6,4,3300000,-;pci 0000:02:00.0: something else\nno record\n",
    )
    assert driver.kernel_log(str(tmp_path), ["0000:01:00.0"]) == [
        "[3.100000] apex 0000:01:00.0: RAM did not enable within timeout (12000 ms)",
        "[3.200000] pci 0000:01:00.0: [1ac1:089a] type 00 class 0x0000ff",
    ]


def test_the_log_of_a_running_kernel_can_be_read_to_its_end() -> None:
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("this machine shows no kernel log")
    found = driver.kernel_log("/")
    assert found is None or all(line.startswith("[") for line in found)


def test_dkms(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "6.12.9\n")
    assert driver.driver(str(tmp_path))["dkms"] is None
    put(tmp_path / "var/lib/dkms/gasket/1.0/build/make.log", "\n".join(f"line {number}" for number in range(100)))
    (tmp_path / "var/lib/dkms/gasket/kernel-6.1.0-x86_64").symlink_to("1.0")
    found = driver.driver(str(tmp_path))["dkms"]
    assert (found["version"], found["built"], len(found["log"]), found["log"][-1]) == ("1.0", False, 40, "line 99")
    (tmp_path / "var/lib/dkms/gasket/1.0/6.12.9/x86_64").mkdir(parents=True)
    assert driver.driver(str(tmp_path))["dkms"] == {"version": "1.0", "built": True, "log": None}


def test_where_the_module_is_from(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "5.10.0\n")
    put(tmp_path / "lib/modules/5.10.0/kernel/drivers/staging/gasket/apex.ko.xz")
    put(tmp_path / "sys/module/apex/version", "1.0\n")
    put(tmp_path / "sys/module/apex/taint", "C\n")
    put(tmp_path / "etc/modprobe.d/blacklist-apex.conf", "# the old one\nblacklist gasket\nblacklist apex\n")
    found = driver.driver(str(tmp_path))
    assert found["file"] == "kernel/drivers/staging/gasket/apex.ko.xz"
    assert (found["version"], found["loaded"], found["in_tree"], found["blacklisted"]) == ("1.0", True, True, True)
    assert (found["headers"], found["gasket_version"]) == (False, None)


def test_device_tree(tmp_path: Path) -> None:
    assert tpu.device_tree(str(tmp_path)) is None
    base = tmp_path / "proc/device-tree"
    put(base / "model", "Freescale i.MX8MQ Phanbell\0")
    put(base / "compatible", "fsl,imx8mq-phanbell\0fsl,imx8mq\0")
    put(base / "yorktown-tpu/compatible", "google,yorktown-tpu\0")
    put(base / "yorktown-tpu/akira0/status", "okay\0")
    put(base / "yorktown-tpu/akira1/status", "disabled\0")
    put(base / "yorktown-tpu/akira2/compatible", "google,akira\0")
    assert tpu.device_tree(str(tmp_path)) == {
        "model": "Freescale i.MX8MQ Phanbell",
        "compatible": ["fsl,imx8mq-phanbell", "fsl,imx8mq"],
        "cores": {"akira0": "okay", "akira1": "disabled", "akira2": "okay"},
    }


@pytest.mark.parametrize(
    ("command", "user", "job"),
    [
        ("/opt/clusteradm/bin/python3 -m clusteradm.node.job.rank /srv/cluster/jobs/17 2", ME, "17"),
        ("/opt/clusteradm/bin/python3 -m clusteradm.node.job.rank /srv/cluster/jobs/17 2", "somebody", None),
        ("python3 -m clusteradm.node.job.ranking /srv/cluster/jobs/17 2", ME, None),
        ("python3 detect.py", ME, None),
        ("", ME, None),
    ],
)
def test_whose_process_it_is(tmp_path: Path, command: str, user: str, job: str | None) -> None:
    put(tmp_path / "proc/77/cmdline", command.replace(" ", "\0"))
    found = tpu.process(str(tmp_path), "77", user)
    assert found == {"pid": 77, "user": ME, "command": command or None, "job": job}


def test_nobodys_process(tmp_path: Path) -> None:
    assert tpu.process(str(tmp_path), "0") is None
    assert tpu.process(str(tmp_path), "78", ME) == {"pid": 78, "user": None, "command": None, "job": None}


def test_group_and_node(tmp_path: Path) -> None:
    assert tpu.group(str(tmp_path), "apex") is None
    put(tmp_path / "etc/group", "root:x:0:\napex:x:998:mendel,cluster\n")
    assert tpu.group(str(tmp_path), "apex") == {"gid": "998", "members": ["mendel", "cluster"]}
    null = os.stat("/dev/null")
    found = tpu.node("/", "/dev/null")
    assert found is not None
    assert (found["major"], found["minor"], found["owner"]) == (1, 3, pwd.getpwuid(null.st_uid).pw_name)
    assert tpu.node(str(tmp_path), "/etc/group") is None


@pytest.mark.parametrize(
    "python", [sys.executable, *filter(None, [shutil.which("python3.7")])], ids=["this", "3.7"][:2]
)
def test_an_empty_machine_and_any_python(tmp_path: Path, python: str) -> None:
    code = "import json, sys; from clusteradm.node.probe import tpu; print(json.dumps(tpu.probe(sys.argv[1], {})))"
    done = subprocess.run([python, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True)
    if "pyenv:" in done.stderr:
        pytest.skip("python3.7 is a version manager's shim")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    del found["lspci"], found["driver"]
    assert found == {
        "proc": None,
        "pci": [],
        "bridges": [],
        "slots": {},
        "vectors": None,
        "apex": [],
        "kernel_log": None,
        "uptime": None,
        "device_tree": None,
        "group": None,
        "user_in_group": None,
    }
