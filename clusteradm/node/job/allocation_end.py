"""How a job's allocation in Slurm ends: apart from it, as most supervisors have none, and start sooner without it."""

COMPLETE, FAILED = "USR1", "USR2"  # signals by which its holder ends


class Cancelled(Exception):
    """Somebody has cancelled the job in Slurm; the text says so."""


class NoAllocation(Exception):
    """Slurm gives none; the text says why."""
