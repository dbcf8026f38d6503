"""What holds for every test."""

from __future__ import annotations

import os
import sys

# Else each of the processes that tests start compiles the whole package anew, and pytest its test modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
