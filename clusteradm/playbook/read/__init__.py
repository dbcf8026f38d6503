"""Playbook files to plays and tasks: YAML with lines, keywords, module options; every defect is a Problem."""
