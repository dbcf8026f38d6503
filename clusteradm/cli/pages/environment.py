"""Templates of pages. What hosts, models and files are called is text, and never becomes markup."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from clusteradm import __version__
from clusteradm.cli.escape import visible

_ENVIRONMENT = Environment(
    loader=ChoiceLoader([PackageLoader("clusteradm.cli." + place, ".") for place in ("pages", "health_forms")]),
    autoescape=True,
    undefined=StrictUndefined,
    # No text may turn a line around, or hide a part of it.
    finalize=lambda value: visible(value) if type(value) is str else value,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **about: Any) -> str:
    """The whole page that a template makes of this."""
    return _ENVIRONMENT.get_template(template).render(version=__version__, **about)
