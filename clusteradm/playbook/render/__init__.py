"""Templates, filters, conditions and variables with Ansible's semantics, on Jinja2."""
