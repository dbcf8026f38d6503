"""The modules: each takes its options and a context, makes the host so, and returns Ansible's result for it."""
