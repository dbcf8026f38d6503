"""A host's half of `fleet`: the list of drains (on the head), the reset of a TPU."""
