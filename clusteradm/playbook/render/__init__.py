"""Jinja as Ansible uses it: templates, filters, variables by Ansible's precedence."""
