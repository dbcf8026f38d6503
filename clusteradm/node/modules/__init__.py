"""Modules: each takes its options and a context, brings the host to that state, and returns Ansible's result."""
