"""Slurm, where a cluster has it: its own programs asked and their answers read."""
