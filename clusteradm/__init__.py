"""clusteradm: one Beowulf cluster out of N small Linux machines with Edge TPUs."""

__version__ = "0.1.0"
