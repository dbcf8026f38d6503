"""Problem of a servable."""


class Problem(ValueError):
    """A definition that cannot be served, or a table that is none; the text says what, and in which part."""
