"""Slurm's own programs, with a time limit; what they say is bounded and no more than text.

They need no library, and all releases have them: the JSON of later ones is not there in Debian 11.
"""

import os
import shutil
import subprocess
from typing import Dict, List, Optional, Sequence

CONFIGURATION = "/etc/slurm/slurm.conf"
# In the first line of what playbooks/slurm.yml writes.
OURS = "clusteradm bootstrap --playbook slurm.yml"
SECONDS = 20.0  # for an answer; a controller that is busy takes its time
_MOST_BYTES = 8 << 20  # 10,000 nodes take 1 MB


class SlurmError(OSError):
    """Slurm does not do what it was asked for; the text is its own."""


def there() -> bool:
    """Whether this host has Slurm's programs."""
    return shutil.which("scontrol") is not None


def ours() -> bool:
    """Whether this host has a Slurm that playbooks/slurm.yml has set up: another one is not ours to change."""
    if not there():
        return False
    try:
        with open(CONFIGURATION, encoding="utf-8", errors="replace") as file:
            return OURS in file.readline()
    except OSError:
        return False


def ask(words: Sequence[str], stdin: str = "", seconds: float = SECONDS) -> str:
    """What the program prints. Raises SlurmError with its own words."""
    env: Dict[str, str] = {name: value for name, value in os.environ.items() if not _directs(name)}
    # Times as Slurm writes them by itself, whatever the locale and the user's settings.
    env.update(LC_ALL="C.UTF-8", SLURM_TIME_FORMAT="standard")
    try:
        done = subprocess.run(
            list(words),
            input=stdin.encode("utf-8"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd="/",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise SlurmError("%s gives no answer in %d s: does slurmctld run?" % (words[0], seconds)) from None
    except OSError as error:
        raise SlurmError("%s: %s" % (words[0], error.strerror)) from None
    out = done.stdout[:_MOST_BYTES].decode("utf-8", "replace")
    if done.returncode:
        said = " ".join((done.stderr[:4000].decode("utf-8", "replace") or out[:4000]).split())
        raise SlurmError("%s: %s" % (words[0], said or "it ended with status %d" % done.returncode))
    return out


def _directs(name: str) -> bool:
    """Whether the variable is an option of a program: SBATCH_PARTITION, SQUEUE_FORMAT."""
    return name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SINFO_", "SALLOC_")) and name != "SLURM_CONF"


def hosts(expression: str) -> List[str]:
    """The hosts of Slurm's "head,w[1-2]". Raises SlurmError."""
    plain = expression.split(",")
    if not any(mark in expression for mark in "[]"):
        return [name for name in plain if name]
    return ask(["scontrol", "show", "hostnames", expression]).split()


def field(text: str, name: str) -> Optional[str]:
    """The value of NAME=VALUE in a line of scontrol's; None where it has none, or "(null)"."""
    for word in text.split():
        key, sign, value = word.partition("=")
        if sign and key == name:
            return None if value in ("", "(null)") else value
    return None
