"""Checks of a host: each judges one section of its probe's document into findings."""
