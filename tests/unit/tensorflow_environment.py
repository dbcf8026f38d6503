"""The Python of a virtual environment with TensorFlow and all that clusteradm needs, for tests.

It is made once, and kept in the cache (1.8 GB, a minute).
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

from clusteradm.lab.cache import Building, Cache, default_root

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"


def python() -> Path:
    """The program of that Python."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = settings["options"]["install_requires"] + settings["options.extras_require"]["convert-tf"]
    names = [line.strip() for line in wanted.splitlines() if line.strip() and not line.strip().startswith("#")]

    def build(building: Building) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", building.path], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(building.path / "bin/python"), "--quiet"]
        install = [*pip, "--disable-pip-version-check", "install", "--no-compile", "-c", str(CONSTRAINTS), *names]
        subprocess.run(install, check=True)

    made_of = [*names, sys.version, CONSTRAINTS.read_text(encoding="utf-8")]
    say = lambda text: print(text, file=sys.stderr)  # noqa: E731
    folder = Cache(default_root()).part("convert-tf", made_of, build, say, "TensorFlow, a minute")
    return folder / "bin" / "python"
