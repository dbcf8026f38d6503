"""A PC that is the head of its own cluster and runs clusteradm: `ansible_connection: local`, sudo, no SSH to itself."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from commands import ill
from conftest import NAME
from jobs import wait

import clusteradm
from clusteradm.lab import Lab
from clusteradm.lab.compiler import compile_file
from clusteradm.lab.digits import data
from clusteradm.lab.layer import USER

pytestmark = pytest.mark.lab

# What clusteradm needs of Python, and what these need.
PACKAGES = ("fabric", "invoke", "paramiko", "jinja2", "pyyaml", "rich", "cryptography", "bcrypt", "pynacl", "cffi")
PACKAGES += ("pycparser", "decorator", "deprecated", "wrapt", "markupsafe", "markdown-it-py", "mdurl", "pygments")
HOME = f"/home/{USER}"


@pytest.fixture(scope="module")
def pc(lab_machine: None) -> Iterator[Lab]:
    """Two bare boards, with a USB Accelerator each; the head has clusteradm, an inventory, the key to the other."""
    one = Lab(f"{NAME}-local", say=lambda text: print(text, file=sys.stderr))
    try:
        one.up(2, usb=1)
        if one.exec("head", ["python3", "-c", "import sys; print(sys.version_info[:2])"]).stdout.strip() != str(
            sys.version_info[:2]
        ):
            pytest.skip("the board's Python is another than this one, whose packages it is to use")
        install(one)
        yield one
    finally:
        one.down()


def install(lab: Lab) -> None:
    document = yaml.safe_load(lab.inventory.read_text())
    shared = document["all"]["vars"]
    # From the head the other board is reached directly.
    del shared["ansible_ssh_common_args"]
    shared["ansible_ssh_private_key_file"] = f"{HOME}/key"
    head = document["all"]["children"]["head"]["hosts"]["head"]
    del head["ansible_host"]
    head["ansible_connection"] = "local"
    files = {f"{HOME}/key": lab.places.key.read_bytes(), f"{HOME}/inventory.yml": yaml.safe_dump(document).encode()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, body in files.items():
            about = tarfile.TarInfo(path)
            about.size, about.mode, about.uid, about.gid = len(body), 0o600, 1000, 1000
            archive.addfile(about, io.BytesIO(body))
        package = Path(clusteradm.__file__).parent
        for folder in (
            package,
            package.parent / "playbooks",
            package.parent / "templates",
            package.parent / "inventory",
        ):
            archive.add(folder, f"/opt/admin/{folder.name}", filter=without_caches)
        for name in PACKAGES:
            for file in importlib.metadata.files(name) or ():
                if ".." not in file.parts and not file.name.endswith(".pyc"):
                    archive.add(file.locate(), f"/opt/admin/{file}")
    subprocess.run(lab.exec_argv("head", ["tar", "-xP"]), input=packed.getvalue(), check=True)


def without_caches(about: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in about.name else about


def run(lab: Lab, *words: str, expect: int | None = 0) -> str:
    """A command of the person who sits at the head. `expect`: None for any exit status."""
    command = ["env", "PYTHONPATH=/opt/admin", "python3", "-m", "clusteradm", *words]
    done = lab.exec("head", ["runuser", "-l", USER, "-c", " ".join(command)], check=False, timeout=600)
    said = f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert expect in (None, done.returncode), said
    return str(done.stdout)


def test_the_whole_job(pc: Lab, tmp_path: Path) -> None:
    digits_model = tmp_path / "digits_edgetpu.tflite"
    compile_file(Path(data.__file__).with_name("digits.tflite"), digits_model)
    assert "this machine: needs no SSH" in run(pc, "enroll", "--accept-new")
    first = run(pc, "bootstrap")
    assert "head" in first and "unreachable=0" in first
    again = run(pc, "bootstrap")
    assert again.count("changed=0") == 2, again
    wait(lambda: not ill(json.loads(run(pc, "health", "--json", expect=None))))
    subprocess.run(
        pc.exec_argv("head", ["sh", "-c", f"cat > {HOME}/digits.tflite"]), input=digits_model.read_bytes(), check=True
    )
    assert "sha256 verified from 2 hosts" in run(pc, "deploy-model", "digits.tflite", "--name", "digits")
    make = "import numpy; numpy.save('in.npy', numpy.zeros((40, 28, 28, 1), numpy.uint8))"
    pc.exec("head", ["runuser", "-l", USER, "-c", f'/opt/clusteradm/bin/python3 -c "{make}"'])
    report = json.loads(run(pc, "infer", "--model", "digits", "in.npy", "--output", "r.jsonl", "--json"))
    assert report["images"] == 40 and {rank["host"] for rank in report["ranks"]} == {"head", "w1"}
    # The accelerators work beside the others, and have their firmware now.
    tpus = {(rank["host"], rank["pci_address"]) for rank in report["ranks"]}
    assert len(tpus) == 4 and {("head", "usb:2-1"), ("w1", "usb:2-1")} < tpus, report
    for node in ("head", "w1"):
        assert pc.exec(node, ["cat", "/sys/bus/usb/devices/2-1/idVendor"]).stdout == "18d1\n"
        assert pc.exec(node, ["stat", "-c", "%G %a", "/dev/bus/usb/002/002"]).stdout == "apex 660\n"
    # Out of use and back, by the board's kernel: whoever has it open loses it, and it keeps its firmware.
    reset = json.loads(run(pc, "tpu", "reset", "w1:usb:2-1", "--json"))
    assert reset["before"] == reset["after"] and reset["after"]["driver"] == "18d1:9302"
    assert pc.exec("w1", ["cat", "/sys/bus/usb/devices/2-1/bConfigurationValue"]).stdout == "1\n"
    # It never connected to itself.
    known = str(pc.exec("head", ["cat", f"{HOME}/known_hosts"]).stdout)
    assert len(known.splitlines()) == 1


def test_a_password_of_sudo(pc: Lab) -> None:
    """Without -K the error says what to do; on a terminal the password is asked for once."""
    sudoers = "/etc/sudoers.d/zz-password"
    pc.exec("head", ["sh", "-c", f"echo '{USER} ALL=(ALL:ALL) PASSWD: ALL' > {sudoers}; echo {USER}:geheim | chpasswd"])
    try:
        out = run(pc, "health", "--limit", "head", "--json", expect=3)
        assert "sudo asks for a password" in out and "-K" in out
        command = "env PYTHONPATH=/opt/admin python3 -m clusteradm health --limit head -K"
        script = f"script -qec '{command}' /dev/null"
        argv = pc.exec_argv("head", ["runuser", "-l", USER, "-c", script])
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdin is not None and process.stdout is not None
        said = b""
        while b"sudo password: " not in said:
            byte = process.stdout.read(1)
            assert byte, said
            said += byte
        # The prompt comes before the terminal's echo is off.
        echo = "for terminal in /dev/pts/[0-9]*; do stty -aF $terminal; done | grep -q -- ' -echo '"
        wait(lambda: pc.exec("head", ["sh", "-c", echo], check=False).returncode == 0)
        process.stdin.write(b"geheim\n")
        process.stdin.flush()
        said += process.stdout.read()
        assert process.wait(180) == 0 and b"geheim" not in said, said
    finally:
        pc.exec("head", ["rm", sudoers])


def test_the_machine_is_not_rebooted(pc: Lab) -> None:
    text = "- {hosts: head, become: true, tasks: [{name: Boot, reboot: }]}"
    pc.exec("head", ["sh", "-c", f"echo '{text}' > {HOME}/boot.yml"])
    before = pc.exec("head", ["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    assert "head is this machine: reboot it by hand" in run(pc, "bootstrap", "--playbook", "boot.yml", expect=3)
    assert pc.exec("head", ["cat", "/proc/sys/kernel/random/boot_id"]).stdout == before
