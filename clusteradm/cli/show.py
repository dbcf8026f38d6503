"""Output of every command: data on standard output, messages on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

SCHEMA_VERSION = 1
PIPED_WIDTH = 240

# Host output is never parsed as markup: "[coral-0]" is a name, not a colour.
# A table in a pipe is not folded to the 80 columns of a terminal that is not there.
stdout = Console(
    markup=False, emoji=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH
)
stderr = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def json_document(command: str, body: Mapping[str, Any]) -> None:
    """Write the one JSON document of a `--json` run to standard output."""
    document = {"schema_version": SCHEMA_VERSION, "command": command, **body}
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=False) + "\n")
    sys.stdout.flush()


def message(text: str) -> None:
    """A line for the person, on standard error."""
    stderr.print(text)


def line(text: str) -> str:
    """The text as one line, without control characters: hosts name their files and programs as they like."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).split())
