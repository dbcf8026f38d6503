"""Results of ansible-playbook, kept in the lab's cache under all that they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusteradm import lab
from clusteradm.lab.cache import KEEP_DAYS, default_root
from clusteradm.lab.plan import Plan

HERE = Path(__file__).parent
# What makes a board and asks it: a change of any of these is another experiment.
MADE_OF = (
    HERE / "agreement.py",
    HERE / "test_ansible_agrees.py",
    Path(__file__),
    *Path(lab.__file__).parent.rglob("*"),
)
# What Ansible's half of a case runs on the admin's side.
PROGRAMS = ("ansible", "ansible-core", "jinja2", "pyyaml", "cryptography")


@dataclass(frozen=True)
class Memory:
    """A folder of `NAME-DIGEST.json`, each {"digest", "checksum", "value"}. `fresh`: what is there is ignored."""

    folder: Path
    fresh: bool = False

    @classmethod
    def default(cls) -> Memory:
        """That of this machine; CLUSTERADM_TEST_FRESH=1 computes everything anew, and keeps it."""
        return cls(default_root() / "ansible-results", os.environ.get("CLUSTERADM_TEST_FRESH", "") not in ("", "0"))

    def value(self, name: str, depends_on: Iterable[object], compute: Callable[[], Any]) -> Any:
        """What was kept under this name and all that it depends on; else what `compute` returns, which is JSON."""
        digest = hashlib.sha256(json.dumps([str(each) for each in depends_on]).encode()).hexdigest()
        path = self.folder / f"{name}-{digest[:16]}.json"
        if not self.fresh:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                entry = json.loads(path.read_bytes())
                if (entry["digest"], entry["checksum"]) == (digest, _checksum(entry["value"])):
                    os.utime(path)
                    return entry["value"]
        value = json.loads(json.dumps(compute()))
        self._keep(path, {"digest": digest, "checksum": _checksum(value), "value": value})
        return value

    def _keep(self, path: Path, entry: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(prefix=".", suffix=".new", dir=self.folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(entry, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        oldest = time.time() - KEEP_DAYS * 86400
        for other in self.folder.iterdir():
            # Another worker may have removed it.
            with contextlib.suppress(FileNotFoundError):
                if other.stat().st_mtime < oldest:
                    other.unlink()


def _checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_boards(plan: Plan, prepared_with: Iterable[Path]) -> list[str]:
    """What results depend on besides the case: the programs, this machine, the boards and their preparation."""
    layers = sorted({layer for *_, layers in plan.lower for layer in layers})
    return [
        *(f"{name} {importlib.metadata.version(name)}" for name in PROGRAMS),
        platform.python_version(),
        *platform.uname()[2:5],
        *_hardware(),
        f"{plan.nodes} {plan.wanted}",
        # The name of a layer says what it was made of; the archive has had other versions since, perhaps.
        *(f"{Path(layer).name} {_digest(Path(layer, 'var/lib/dpkg/status'))}" for layer in layers),
        *(f"{path} {Path(place).name} {_digest(*sorted(Path(place).rglob('Packages')))}" for path, place in plan.web),
        *(f"{path.name} {_digest(path)}" for path in prepared_with),
        _digest(*sorted(path for path in MADE_OF if path.is_file() and "__pycache__" not in path.parts)),
    ]


def _hardware() -> Iterator[str]:
    """What a board's facts tell of this machine."""
    yield str(os.cpu_count())
    words = Path("/proc/meminfo").read_text(encoding="ascii").split()
    yield f"{int(words[1]) // 1024} MiB"
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        yield from sorted({line.strip() for line in file if line.startswith("model name")})


def of_case(case: Path) -> str:
    """A case, and all that cases include."""
    others = [path for path in case.parent.rglob("*") if path.parent != case.parent or path.suffix != ".yml"]
    return _digest(case, *sorted(others))


def _digest(*paths: Path) -> str:
    """Names and contents of files; one that is not there counts as such."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name}\0".encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()
