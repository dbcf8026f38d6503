"""Extras: Python packages that only some commands need, and the command that installs them into this Python."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from clusteradm.errors import UsageError


def require(extra: str, modules: Sequence[str], who: str) -> None:
    """Raise UsageError, with the command to run next, unless this Python can import the modules of an extra.

    `who`: what needs them, as in "the lab". Nothing is imported.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{who} needs Python packages that are not here: {', '.join(missing)}",
            next_step=f"install them with: {install_command(extra)}",
        )


def install_command(extra: str) -> str:
    """The shell command that installs an extra beside clusteradm, by the tool that installed clusteradm itself."""
    wanted = shlex.join(requirements(extra))
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file() and shutil.which("pipx"):
        return f"pipx inject {shlex.quote(prefix.name)} {wanted}"
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:
        if shutil.which("uv"):
            return f"uv pip install --python {python} {wanted}"
        return f"{python} -m ensurepip && {python} -m pip install {wanted}"
    # Debian's own Python refuses packages from elsewhere (PEP 668); clusteradm is one already.
    own = sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
    return f"{python} -m pip install {'--break-system-packages ' if own else ''}{wanted}"


def requirements(extra: str) -> list[str]:
    """What setup.cfg says of an extra, as pip takes it; the extra of clusteradm itself where that is not known."""
    wanted = re.compile(rf"""extra == ['"]{re.escape(extra)}['"]""")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        lines = (line.partition(";") for line in importlib.metadata.requires("clusteradm") or ())
        if found := [name.strip() for name, _, condition in lines if wanted.search(condition)]:
            return found
    return [f"clusteradm[{extra}]"]
