"""Fronts: one module per protocol, each a thin adapter to the data plane."""
