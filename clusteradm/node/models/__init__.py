"""Model repository on the head and the compute nodes: add, verify, show."""
