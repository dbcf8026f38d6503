"""YAML -> plays and tasks, and every defect with its line."""
