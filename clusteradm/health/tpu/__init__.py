"""The Edge TPUs of a host: facts from its probe, and one state for each TPU."""
