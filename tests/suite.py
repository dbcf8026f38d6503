"""pytest, and once more, alone, what failed beside other tests: `python -m tests.suite ARGUMENTS...`, pytest's own.

The tests share a machine with each other and with whoever else uses it. A test that passes alone has shown a fault that
depends on load, and is named at the end for somebody to look at; more than MOST of them, or one that fails again, fail
the suite.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# One in fifty of the lab's tests, of which three groups share two cores. Where more fail at once, what they have in
# common is to be looked at; a fault of the program itself fails again, alone.
MOST = 6
_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    """The exit status of pytest."""
    pytest = [sys.executable, "-m", "pytest"]
    status = subprocess.run([*pytest, "--cache-clear", *arguments], check=False).returncode
    if status != 1 or not _FAILED.is_file():
        return status
    failed = sorted(json.loads(_FAILED.read_text()))
    if len(failed) > MOST:
        return status
    print(f"\nOnce more, alone: {', '.join(failed)}", flush=True)
    again = subprocess.run([*pytest, "-v", *failed], check=False).returncode
    if not again:
        print("\nFAILED BESIDE OTHER TESTS, passed alone (look for what depends on load):", *failed, sep="\n  ")
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
