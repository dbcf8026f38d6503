"""Probes: what a host is like right now. They only report; the admin side judges."""
