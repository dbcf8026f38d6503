"""Verdicts on Edge TPUs where the first plausible cause is not the true one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm.health.tpu import driver as tpu_driver
from clusteradm.health.tpu import state as tpu
from clusteradm.node.probe import driver as driver_probe
from tests.unit.health.test_fixtures import judged, load

BUSY = {"cpus": 2, "running": 40, "lag": 6.0}
LATE = {"error": "no answer within 30 s", "timeout": True}


@pytest.mark.parametrize(
    ("about", "busy", "state", "remedy"),
    [
        (LATE, BUSY, "BUSY", "top on the host"),
        (LATE, {"cpus": 2, "running": 1, "lag": 0.1}, "UNKNOWN", "ps -eo pid,stat,wchan:20,args | grep ' D'"),
        (LATE, None, "UNKNOWN", "ps -eo pid,stat,wchan:20,args | grep ' D'"),
        ({"error": "ValueError: x"}, BUSY, "UNKNOWN", "dmesg | tail"),
    ],
)
def test_a_section_that_gave_no_facts(about: dict[str, Any], busy: object, state: str, remedy: str) -> None:
    (finding,) = tpu.judge("h", 2, {"tpu": about, "load": busy})
    assert (finding.check, finding.state) == ("tpu", state)
    assert remedy in finding.remedy and about["error"] in finding.cause


def driver_of(name: str, *log: str, **driver: object) -> Any:
    fixture = load(name)
    about = fixture["document"]["tpu"]
    about["driver"].update(driver)
    about["kernel_log"] = [f"[{number}.5] {line}" for number, line in enumerate(log, 1)]
    (finding,) = judged(fixture)
    return finding


REJECTED = "Loading of module with unavailable key is rejected"
STAGING = "kernel/drivers/staging/gasket/apex.ko"


@pytest.mark.parametrize("line", [REJECTED, "Loading of unsigned module is rejected", "Required key not available"])
@pytest.mark.parametrize("secure", [None, False, True])
@pytest.mark.parametrize("file", [STAGING, "updates/dkms/apex.ko"])
def test_another_modules_rejection_does_not_hide_the_blacklist(line: str, secure: bool | None, file: str) -> None:
    finding = driver_of("no-driver-blacklisted", line, file=file, dkms=None, secure_boot=secure, blacklisted=True)
    assert "blacklisted in" in finding.cause and "mokutil" not in finding.remedy


@pytest.mark.parametrize(("file", "secure"), [(STAGING, True), (STAGING, None), ("updates/dkms/apex.ko", False)])
def test_a_rejection_that_cannot_be_of_this_module(file: str, secure: bool | None) -> None:
    finding = driver_of("no-driver-secure-boot", REJECTED, file=file, secure_boot=secure)
    assert "is there, but not loaded" in finding.cause and "mokutil" not in finding.remedy
    mismatch = "apex: version magic '6.1.0' should be '6.2.0'"
    finding = driver_of("no-driver-secure-boot", REJECTED, mismatch, file=file, secure_boot=secure)
    assert "was built for another kernel" in finding.cause


def test_a_rejection_that_names_another_module() -> None:
    finding = driver_of("no-driver-secure-boot", "vboxdrv: Loading of unsigned module is rejected", secure_boot=False)
    assert "mokutil" not in finding.remedy


MODPOST = [
    'ERROR: "{name}" [/var/lib/dkms/gasket/1.0/build/gasket.ko] undefined!',  # Linux 4.19
    'WARNING: "{name}" [/var/lib/dkms/gasket/1.0/build/gasket.ko] undefined!',
    'WARNING: modpost: "{name}" [/var/lib/dkms/gasket/1.0/build/gasket.ko] undefined!',
    'ERROR: modpost: "{name}" [/var/lib/dkms/gasket/1.0/build/gasket.ko] undefined!',
]


@pytest.mark.parametrize("line", MODPOST)
@pytest.mark.parametrize(("name", "cause"), [("dma_buf_detach", "no DMA_BUF"), ("mcount", "lacks a function")])
def test_each_spelling_of_modpost(line: str, name: str, cause: str, tmp_path: Path) -> None:
    log = ["DKMS make.log for gasket-1.0 for kernel 4.19.0-21-cloud-amd64 (x86_64)", "date"]
    log += [f"  CC [M]  {number}.o" for number in range(60)]
    log += [line.format(name=name), *[f"  LD [M]  {number}.ko" for number in range(60)]]
    folder = tmp_path / "var/lib/dkms/gasket/1.0/build"
    folder.mkdir(parents=True)
    (folder / "make.log").write_text("\n".join(log))
    told = driver_probe.dkms(str(tmp_path), "4.19.0-21-cloud-amd64")
    finding = driver_of("no-driver-dkms-cloud", dkms=told, kernel="4.19.0-21-cloud-amd64")
    assert cause in finding.cause and f'"{name}"' in finding.cause


def test_an_error_comes_before_symbols_that_modpost_only_warns_of() -> None:
    warning = MODPOST[2].format(name="printk")
    error = "gasket_core.c:1373:44: error: too many arguments to function ‘class_create’"
    assert tpu_driver.first_error((warning, error)) == error


@pytest.mark.parametrize(
    ("kernel", "headers", "remedy"),
    [
        ("6.2.16-14-pve", False, "apt-get install pve-headers-$(uname -r)"),
        ("5.14.0-362.el9.x86_64", False, "dnf install kernel-devel-$(uname -r)"),
        ("6.1.21-v8+", False, "apt-get install raspberrypi-kernel-headers"),
        ("6.2.16-custom", False, "apt-get install linux-headers-$(uname -r)"),
        ("6.1.0-18-amd64", False, "run clusteradm bootstrap"),
        ("6.1.0-0.deb11.13-cloud-arm64", False, "run clusteradm bootstrap"),
        ("6.2.16-14-pve", True, "run clusteradm bootstrap"),
    ],
)
def test_bootstrap_alone_is_the_remedy_where_it_gets_the_headers(kernel: str, headers: bool, remedy: str) -> None:
    finding = driver_of("no-driver", kernel=kernel, headers=headers)
    assert finding.remedy.startswith(remedy) and finding.remedy.endswith("clusteradm bootstrap")


def test_headers_are_asked_for_on_the_host_once() -> None:
    line = "Error! Your kernel headers for kernel 6.1.0-18-amd64 cannot be found at /lib/modules/x/build or source."
    dkms = {"name": "gasket", "version": "1.0", "built": False, "log": [line]}
    finding = driver_of("no-driver-dkms-headers-said", dkms=dkms, headers=True)
    assert "linux-headers-$(uname -r) on the host, then dkms" in finding.remedy


@pytest.mark.parametrize("width", [0, 32, 255])
def test_a_width_that_is_none_says_nothing_of_the_speed(width: int) -> None:
    fixture = load("link-gen1")
    for card in fixture["document"]["tpu"]["pci"]:
        card.update(link_speed="2.5 GT/s", link_width=width)
    assert "LINK" not in [finding.state for finding in judged(fixture)]
