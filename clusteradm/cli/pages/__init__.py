"""HTML pages of reports: self-contained, without scripts and network, readable on paper and a telephone."""

from clusteradm.cli.pages.environment import render

__all__ = ["render"]
