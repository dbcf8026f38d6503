"""Folders of the shipped templates, playbooks and example inventories.

In a wheel they are package data in `clusteradm/shipped/`; in a checkout they are the top-level folders.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_ROOT = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent

TEMPLATES = _ROOT / "templates"
PLAYBOOKS = _ROOT / "playbooks"
INVENTORY = _ROOT / "inventory"
