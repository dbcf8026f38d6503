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

from clusteradm.node.probe import driver, kernel_log, pcie, tpu

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


def card(root: Path, address: str) -> None:
    for name, text in {"vendor": "0x1ac1", "device": "0x089a"}.items():
        put(root / "sys/bus/pci/devices" / address / name, text + "\n")


def kmsg(root: Path, *texts: str) -> None:
    put(root / "dev/kmsg", "".join(f"6,{number},{number}000000,-;{text}\n" for number, text in enumerate(texts)))


def test_the_kernels_log_on_apex_and_on_the_cards(tmp_path: Path) -> None:
    assert kernel_log.kernel_log(str(tmp_path)) is None
    put(
        tmp_path / "dev/kmsg",
        "6,1,900,-;Linux version 6.1.0\n"
        "3,2,3100000,-;apex 0000:01:00.0: RAM did not enable within timeout (12000 ms)\n"
        " SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"
        "6,3,3200000,c;pci 0000:01:00.0: [1ac1:089a] type 00 class 0x0000ff\n"
        "6,4,3300000,-;pci 0000:02:00.0: something else\nno record\n",
    )
    assert kernel_log.kernel_log(str(tmp_path)) == [
        "[3.100000] apex 0000:01:00.0: RAM did not enable within timeout (12000 ms)",
        "[3.200000] pci 0000:01:00.0: [1ac1:089a] type 00 class 0x0000ff",
    ]


# Lines of the threads that the fixtures name (tests/fixtures/probes), and beside them lines about other devices.
KEPT = [
    "Loading of unsigned module is rejected",
    "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
    "pcieport 0000:80:01.1: Data Link Layer Link Active not set in 1000 msec",
    "pcieport 0000:80:01.1: DPC: containment event, status:0x1f01 source:0x0000",
    "pci 0000:83:00.0: AER: can't recover (no error_detected callback)",
    "pci 0000:80:01.1: bridge window [mem size 0x00200000 64bit pref]: can't assign; no space",
    "DMAR: [DMA Read NO_PASID] Request device [83:00.0] fault addr 0x100000 [fault reason 0x71]",
    "gasket: Unknown symbol dma_buf_get (err -2)",
    "pci 0000:84:00.0: [1ac1:089a] type 00 class 0x0000ff",
    "pci 0000:84:00.0: removed, and gone since",
]
DROPPED = [
    "pcieport 0000:80:01.1: PME: Signaling with IRQ 40",
    "pcieport 0000:90:01.1: DPC: containment event, status:0x1f01 source:0x0000",
    "DMAR: [DMA Read NO_PASID] Request device [93:00.0] fault addr 0x100000 [fault reason 0x71]",
    "nvme 0000:93:00.0: PCIe Bus Error: severity=Uncorrected (Fatal)",
    "usb 1-1: new high-speed USB device",
]


def test_the_log_has_the_bridges_the_module_and_the_cards_that_are_gone(tmp_path: Path) -> None:
    card(tmp_path, "0000:83:00.0")
    bridge(tmp_path, "0000:80:01.1", secondary_bus_number="131", subordinate_bus_number="132")
    kmsg(tmp_path, *KEPT, *DROPPED)
    found = kernel_log.kernel_log(str(tmp_path))
    assert found is not None and [line.partition("] ")[2] for line in found] == KEPT


def test_what_is_repeated_does_not_crowd_out_what_came_first(tmp_path: Path) -> None:
    first = "apex 0000:01:00.0: Couldn't initialize interrupts: -22"
    again = "apex 0000:01:00.0: Apex performance not throttled due to temperature"
    faults = [f"apex 0000:01:00.0: Fault VA: {number:#x}" for number in range(500)]
    kmsg(tmp_path, first, *[again] * 5000, *faults)
    found = kernel_log.kernel_log(str(tmp_path))
    assert found is not None and len(found) == 1 + 4 + 4 and first in found[0]
    kmsg(tmp_path, first, *[f"apex 0000:01:00.0: message {number}" for number in range(5000)])
    found = kernel_log.kernel_log(str(tmp_path))
    assert found is not None and len(found) == 200 and first in found[0] and "message 4999" in found[-1]


def test_a_crash_of_the_driver_is_told_by_its_first_line_and_one_of_others_is_not(tmp_path: Path) -> None:
    crash = [
        "Internal error: synchronous external abort: 0000000096000210 [#1] PREEMPT SMP",
        "Modules linked in: apex(O) gasket(O) zram",
        "Workqueue: events check_temperature_work_handler [apex]",
        "---[ end trace 0000000000000000 ]---",
    ]
    other = [
        "BUG: unable to handle page fault for address: 0000000000010000",
        "Oops: Oops: 0000 [#1] PREEMPT SMP PTI",
        "RIP: 0010:task_work_run+0x50/0x90",
        "Modules linked in: apex(OE) gasket(OE) zram",
        "---[ end trace 0000000000000000 ]---",
        "gasket: loading out-of-tree module taints kernel.",
    ]
    kmsg(tmp_path, *other, *crash)
    found = kernel_log.kernel_log(str(tmp_path))
    assert found is not None and [line.partition("] ")[2] for line in found] == [other[-1], crash[0], crash[2]]


def test_the_log_of_a_running_kernel_can_be_read_to_its_end() -> None:
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("this machine shows no kernel log")
    found = kernel_log.log("/")
    assert found is None or all(line.startswith("[") for line in found)


def test_dkms(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "6.12.9\n")
    assert driver.driver(str(tmp_path))["dkms"] is None
    put(tmp_path / "var/lib/dkms/gasket/1.0/build/make.log", "\n".join(f"line {number}" for number in range(100)))
    (tmp_path / "var/lib/dkms/gasket/kernel-6.1.0-x86_64").symlink_to("1.0")
    found = driver.driver(str(tmp_path))["dkms"]
    assert (found["name"], found["version"], found["built"], found["log"][-1]) == ("gasket", "1.0", False, "line 99")
    (tmp_path / "var/lib/dkms/gasket/1.0/6.12.9/x86_64").mkdir(parents=True)
    assert driver.driver(str(tmp_path))["dkms"] == {"name": "gasket", "version": "1.0", "built": True, "log": None}


def test_a_fork_has_another_name_and_the_one_that_is_built_counts(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "6.12.9\n")
    put(tmp_path / "var/lib/dkms/gasket/1.0/build/make.log", "x")
    (tmp_path / "var/lib/dkms/gasket-dkms/1.0-18/6.12.9/x86_64").mkdir(parents=True)
    (tmp_path / "var/lib/dkms/gasket-driver/0.9").mkdir(parents=True)
    found = driver.driver(str(tmp_path))["dkms"]
    assert found == {"name": "gasket-dkms", "version": "1.0-18", "built": True, "log": None}


def test_the_first_error_of_a_long_build_is_told(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "6.12.9\n")
    lines = ["DKMS make.log for gasket-1.0 for kernel 6.12.9 (x86_64)"]
    lines += [f"  CC [M]  a{number}.o" for number in range(500)]
    lines += ["gasket_core.c:1376:19: error: ‘no_llseek’ undeclared here (not in a function)"]
    lines += [f"gasket_core.h:{number}: warning: unused" for number in range(500)]
    lines += ["make: *** [Makefile:224] Error 2"]
    put(tmp_path / "var/lib/dkms/gasket/1.0/build/make.log", "\n".join(lines))
    log = driver.driver(str(tmp_path))["dkms"]["log"]
    assert log[0] == lines[0] and lines[501] in log and log[-1] == lines[-1] and len(log) <= 40


def test_where_the_module_is_from(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "5.10.0\n")
    put(tmp_path / "lib/modules/5.10.0/kernel/drivers/staging/gasket/apex.ko.xz")
    put(tmp_path / "sys/module/apex/version", "1.0\n")
    put(tmp_path / "sys/module/apex/taint", "C\n")
    put(tmp_path / "etc/modprobe.d/blacklist-apex.conf", "# the old one\nblacklist gasket\nblacklist apex\n")
    found = driver.driver(str(tmp_path))
    assert found["file"] == "kernel/drivers/staging/gasket/apex.ko.xz"
    assert found["blacklist"] == "/etc/modprobe.d/blacklist-apex.conf"
    assert (found["version"], found["loaded"], found["in_tree"], found["blacklisted"]) == ("1.0", True, True, True)
    assert (found["headers"], found["gasket_version"]) == (False, None)


@pytest.mark.parametrize(
    ("file", "text", "where"),
    [
        ("etc/modprobe.d/a.conf", "install apex /bin/false\n", "/etc/modprobe.d/a.conf"),
        ("proc/cmdline", "quiet module_blacklist=nouveau,apex\n", "the kernel's command line"),
        ("proc/cmdline", "modprobe.blacklist=gasket quiet\n", "the kernel's command line"),
        ("etc/modprobe.d/a.conf", "# blacklist apex\nblacklist apexes\noptions apex trip_point0_temp=1\n", None),
        ("proc/cmdline", "quiet apex.trip_point0_temp=1\n", None),
    ],
)
def test_what_excludes_the_module(tmp_path: Path, file: str, text: str, where: str | None) -> None:
    put(tmp_path / file, text)
    found = driver.driver(str(tmp_path))
    assert (found["blacklist"], found["blacklisted"]) == (where, where is not None)


def test_the_module_is_where_depmod_found_it(tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", "6.12.9\n")
    dependencies = "kernel/x.ko:\nextra/gasket/apex.ko.xz: extra/gasket/gasket.ko.xz\n"
    put(tmp_path / "lib/modules/6.12.9/modules.dep", dependencies)
    assert driver.driver(str(tmp_path))["file"] == "extra/gasket/apex.ko.xz"


def test_secure_boot(tmp_path: Path) -> None:
    variable = tmp_path / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    assert driver.driver(str(tmp_path))["secure_boot"] is None
    for last, found in ((b"\0", False), (b"\1", True), (b"", None)):
        variable.parent.mkdir(parents=True, exist_ok=True)
        variable.write_bytes(b"\6\0\0\0" + last)
        assert driver.driver(str(tmp_path))["secure_boot"] is found
    put(tmp_path / "sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert driver.driver(str(tmp_path))["secure_boot"] is True


def test_what_is_where_a_device_node_should_be(tmp_path: Path) -> None:
    assert tpu.in_place(str(tmp_path), "/dev/apex_0") == "nothing"
    put(tmp_path / "dev/apex_0")
    (tmp_path / "dev/apex_1").mkdir()
    (tmp_path / "dev/apex_2").symlink_to("apex_9")
    found = [tpu.in_place(str(tmp_path), f"/dev/apex_{number}") for number in range(3)]
    assert found == ["a plain file", "a folder", "a link that leads to no device"]


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
    assert found == {"pid": 77, "user": ME, "command": command or None, "job": job, "pod": False}


def test_nobodys_process(tmp_path: Path) -> None:
    assert tpu.process(str(tmp_path), "0") is None
    assert tpu.process(str(tmp_path), "78", ME) == {"pid": 78, "user": None, "command": None, "job": None, "pod": False}


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
    "python", [sys.executable, *filter(None, [shutil.which("python3.7")])], ids=lambda path: Path(path).name
)
def test_an_empty_machine_and_any_python(tmp_path: Path, python: str) -> None:
    code = "import json, sys; from clusteradm.node.probe import tpu; print(json.dumps(tpu.probe(sys.argv[1], {})))"
    done = subprocess.run([python, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True)
    if "pyenv:" in done.stderr:
        pytest.skip("python3.7 is a version manager's shim")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    del found["lspci"], found["driver"]
    assert found.pop("page_size") == os.sysconf("SC_PAGE_SIZE")
    assert found == {
        "proc": None,
        "pci": [],
        "bridges": [],
        "slots": {},
        "vectors": None,
        "apex": [],
        "lsusb": None,
        "usb": [],
        "kernel_log": None,
        "uptime": None,
        "device_tree": None,
        "group": None,
        "user_in_group": None,
    }
