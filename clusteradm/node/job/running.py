"""Time in which this process runs: what a host is frozen for does not count against the others that it waits for."""


class RunningTime:
    """Seconds since its beginning. To be told of the time often."""

    def __init__(self, now: float, longest: float) -> None:
        """`now`: seconds, by a monotonic clock; `longest`: the most that one step counts as."""
        self.seconds = 0.0
        self._seen, self._longest = now, longest

    def pass_to(self, now: float) -> None:
        """Go on to the present."""
        self.seconds += min(now - self._seen, self._longest)
        self._seen = now
