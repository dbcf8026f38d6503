"""What several modules' tables share."""

from typing import Any, Dict

Options = Dict[str, Dict[str, Any]]
Table = Dict[str, Dict[str, Any]]

FILE: Options = {
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "mode"},
}


def path(*aliases: str) -> Dict[str, Any]:
    """A required path that may be called by these names too."""
    return {"type": "path", "required": True, "aliases": list(aliases)}


def choice(*choices: str, **more: Any) -> Dict[str, Any]:
    """One of these words."""
    return dict(more, type="str", choices=list(choices))
