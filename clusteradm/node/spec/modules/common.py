"""Options that several modules have."""

from typing import Any, Dict

Options = Dict[str, Dict[str, Any]]
Table = Dict[str, Dict[str, Any]]

FILE: Options = {
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "mode"},
}


def path(*aliases: str) -> Dict[str, Any]:
    """A required path with these aliases."""
    return {"type": "path", "required": True, "aliases": list(aliases)}


def choice(*choices: str, **more: Any) -> Dict[str, Any]:
    """One of these texts."""
    return dict(more, type="str", choices=list(choices))
