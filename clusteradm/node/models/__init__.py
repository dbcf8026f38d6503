"""The model repository, as the head and the compute nodes work on it."""
