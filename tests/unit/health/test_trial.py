"""The attempt on a TPU, with real processes: it works, it crashes, it hangs, it is refused; and never as root."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clusteradm.lab import hardware, sysfs, tpu_package
from clusteradm.lab.topology import boards
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node import child
from clusteradm.node.edgetpu import trial as edgetpu_trial
from clusteradm.node.edgetpu import trial_model
from clusteradm.node.probe import programs, runtime, trial
from clusteradm.node.probe.lock import tpu_lock

ME = pwd.getpwuid(os.geteuid()).pw_name
# libedgetpu's names, and one way each in which it is known to go wrong.
ILL = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static int loud;
static struct { int type; const char *path; } devices[2];
void *edgetpu_list_devices(size_t *count) {
    if (loud && !COUNT) fputs("Failed to open /sys/class/apex: No such file or directory\\n", stderr);
    devices[0].path = "/dev/apex_9";
    devices[1].path = getenv("APEX");
    *count = COUNT;
    return COUNT ? devices : NULL;
}
void edgetpu_free_devices(void *devices) { }
void edgetpu_verbosity(int level) { loud = level; }
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*report)(const char *)) {
    if (CRASH) raise(SIGSEGV);
    if (HANG) pause();
    if (loud) fputs("Device open failed : -1 (Operation not permitted)\\n", stderr);
    return NULL;
}
void tflite_plugin_destroy_delegate(void *delegate) { }
"""


@pytest.fixture(autouse=True)
def needs() -> None:
    pytest.importorskip("ai_edge_litert")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")


def test_programs_run_side_by_side(tmp_path: Path) -> None:
    """The first reads what the second writes: one after the other they would not end."""
    os.mkfifo(tmp_path / "fifo")
    read, write = f"cat {tmp_path}/fifo; seq 100 >&2", f"echo out >{tmp_path}/fifo; kill -11 $$"
    talker, crashed = programs.run_all([["sh", "-c", read], ["sh", "-c", write]], 60, lines=2)
    assert (talker["timeout"], talker["status"], talker["out"], talker["err"]) == (False, 0, "out\n", ["99", "100"])
    assert (crashed["status"], trial.outcome(crashed)["signal"]) == (-11, 11)


def test_no_program_runs_for_ever() -> None:
    begun = time.monotonic()
    (hung,) = programs.run_all([["sleep", "60"]], 0.3)
    assert time.monotonic() - begun < 30
    assert (hung["timeout"], hung["status"]) == (True, -9)


def test_never_as_root(tmp_path: Path) -> None:
    assert trial.probe(str(tmp_path), {"user": "root"}) == {"attempts": None}


def ill_library(folder: Path, *, crash: bool = False, count: int = 2, hang: bool = False) -> None:
    (folder / "ill.c").write_text(ILL)
    target, source = str(folder / "libedgetpu.so.1"), str(folder / "ill.c")
    how = [f"-DCRASH={int(crash)}", f"-DCOUNT={count}", f"-DHANG={int(hang)}"]
    subprocess.run(["gcc", "-shared", "-fPIC", *how, "-o", target, source], check=True)


def attempt(path: str, python: str = sys.executable) -> list[str]:
    return trial.command(python, {"path": path, "node": path}, None)


@pytest.mark.parametrize(
    ("crash", "count"), [(True, 2), (False, 0), (False, 1), (False, 2)], ids=["crash", "none", "other", "refused"]
)
def test_what_a_library_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: bool, count: int) -> None:
    ill_library(tmp_path, crash=crash, count=count)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "apex_0").touch()
    path = str(tmp_path / "apex_0")
    monkeypatch.setenv("APEX", path)
    (ended,) = programs.run_all([attempt(path)], 60)
    result = trial.outcome(ended)
    assert (result["ok"], result["access"], result["count"]) == (False, True, count)
    assert result["stage"] == ("load" if count == 2 else "list")
    if crash:
        assert result["signal"] == 11
    elif count == 2:
        assert result["error"].startswith("Failed to load delegate")
        assert "Device open failed : -1 (Operation not permitted)" in result["stderr"]
    else:
        assert result["stderr"][-1].endswith(f"only: {'/dev/apex_9' if count else 'none'}")
        assert (result["stderr"][0] == "Failed to open /sys/class/apex: No such file or directory") is not bool(count)


def test_a_library_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the import before it took."""
    ill_library(tmp_path, hang=True)
    (tmp_path / "apex_0").touch()
    for name, value in {"LD_LIBRARY_PATH": tmp_path, "APEX": tmp_path / "apex_0"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(trial, "_SECONDS", 1)
    (ended,) = programs.run_all([attempt(str(tmp_path / "apex_0"))], 60)
    result = trial.outcome(ended)
    assert (result["ok"], result["stage"], result["timeout"], "signal" in result) == (False, "load", True, False)


class Machine:
    """A root with one simulated TPU, and its library with the model of its trial."""

    def __init__(self, root: Path) -> None:
        self.root = root
        hardware.make(root / "view", boards(1, 1)[0])
        (root / "sys").mkdir()
        (root / "sys/class").symlink_to("../view/sys-class")
        for name in ("run", "sockets", "dev"):
            (root / name).mkdir(parents=True)
        (root / "dev/apex_0").touch()
        places = {"SOCKETS": root / "sockets", "CLASS": root / "sys/class/apex", "DEV": root / "dev"}
        tpu_package.compile_library(root / "libedgetpu.so.1", places)
        tpu_package.compile_trial_model(root / tpu_package.TRIAL_MODEL)
        self.apex = root / "sys/class/apex/apex_0"
        command = [sys.executable, "-m", "clusteradm.lab.device", str(root / "sockets/apex_0.sock"), str(self.apex)]
        self.device = subprocess.Popen(command)
        end = time.monotonic() + 30
        while not (root / "sockets/apex_0.sock").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def attempts(self) -> dict[str, Any]:
        return trial.attempts(str(self.root), ME, sys.executable)

    def read(self, name: str) -> str:
        return (self.apex / name).read_text().strip()


def test_an_inference_on_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    machine = Machine(tmp_path)
    try:
        address = machine.read("pci_address")
        (result,) = machine.attempts().values()
        assert result["ok"] and result["inference"] and result["interrupts"], result
        assert "0x03: 1\n" in (machine.apex / "interrupt_counts").read_text()
        for name, ill in {"is_device_owned": "1", "temp": "-89700", "status": "LAMED"}.items():
            before = (machine.apex / name).read_text()
            sysfs.put(machine.apex / name, ill + "\n")
            assert machine.attempts() == {}, name
            sysfs.put(machine.apex / name, before)
        assert "0x03: 1\n" in (machine.apex / "interrupt_counts").read_text()
        assert list(trial.free(str(tmp_path))) == [
            {
                "name": "apex_0",
                "address": address,
                "path": str(tmp_path / "dev/apex_0"),
                "node": str(tmp_path / "dev/apex_0"),
            }
        ]
    finally:
        machine.device.terminate()
        machine.device.wait()


def test_the_programs_own_model_is_what_googles_compiler_made() -> None:
    content = trial_model.content()
    assert hashlib.sha256(content).hexdigest() == trial_model.SHA256
    model = inspect(content, "the trial's model")
    assert (model.tpu_operations, model.cpu_operations) == (1, {})
    assert model.min_runtime == trial_model.MIN_RUNTIME


@pytest.mark.parametrize(
    ("version", "given"), [("RuntimeVersion(12)", False), ("RuntimeVersion(14)", True), ("", True)]
)
def test_a_library_that_is_too_old_for_the_model_is_not_blamed(version: str, given: bool) -> None:
    class Old:
        def version(self) -> str:
            return version

    assert bool(edgetpu_trial._own_model(Old())) is given  # type: ignore[arg-type]


@pytest.mark.parametrize("google", [True, False])
def test_googles_pycoral_is_told_from_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, google: bool) -> None:
    package = tmp_path / "pycoral"
    (package / "utils").mkdir(parents=True)
    # The coral-reef tool: pycoral/pycoral.py, and packages that a board does not have.
    (package / "__init__.py").write_text("" if google else "import geopandas\n")
    (package / ("utils/edgetpu.py" if google else "pycoral.py")).write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runtime, "PYTHON", sys.executable)
    found = runtime.ask(ME)
    assert found["ok"] and found["google_pycoral"] is google and found["pycoral"] == [str(package)]


def test_the_probe_waits_for_a_trial_and_a_trial_for_the_probe(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code = "import sys; from clusteradm.node.probe.lock import tpu_lock\n"
    code += "with tpu_lock(sys.argv[1], 60) as acquired: print(acquired, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe, root = subprocess.PIPE, Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe) as other:
        assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == b"True\n"
        with tpu_lock(str(tmp_path), 0.1) as acquired:
            assert not acquired
        other.stdin.close()
        with tpu_lock(str(tmp_path), 60) as acquired:
            assert acquired
    assert trial.attempts(str(tmp_path), ME, sys.executable) == {}


def test_where_there_is_no_place_for_a_lock(tmp_path: Path) -> None:
    with tpu_lock(str(tmp_path), 60) as acquired:
        assert not acquired


def test_a_python_without_a_runtime_says_so_in_one_line(tmp_path: Path) -> None:
    commands = [attempt("/dev/apex_0", ""), child.command("", "edgetpu.versions")]
    bare = [[sys.executable, "-S", *command[1:]] for command in commands]  # no site-packages
    tried, said = programs.run_all(bare, 60)
    assert tried["status"] == 1
    assert tried["err"] == ["this Python has no TensorFlow Lite runtime: run clusteradm bootstrap"]
    assert trial.outcome(tried)["stage"] == "import"
    found = json.loads(said["out"])
    assert (found["litert"], found["numpy"], found["pycoral"], found["google_pycoral"]) == (None, None, None, None)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_library_that_is_not_there_is_its_own_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "libedgetpu.so.1").write_bytes(b"not a library")
    monkeypatch.setattr(runtime, "PYTHON", sys.executable)
    found = runtime.ask(ME)
    assert found["ok"] and "libedgetpu.so.1" in found["library_error"] and "devices" not in found
    (ended,) = programs.run_all([attempt("/dev/apex_0")], 60)
    assert ended["err"][-1].startswith("the Edge TPU library is not installed here: ")


def test_a_child_finds_the_package_before_what_the_environment_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert child.environment()["PYTHONPATH"] == child.package_folder()
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert child.environment()["PYTHONPATH"] == f"{child.package_folder()}:/elsewhere"
