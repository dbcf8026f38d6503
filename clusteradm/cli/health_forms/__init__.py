"""The forms in which health is told: one module each, a report in, text out."""
