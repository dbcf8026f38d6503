"""Output formats of health: one module each, from a HealthReport to text."""
