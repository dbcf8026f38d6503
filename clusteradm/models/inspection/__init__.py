"""Inspection of a .tflite file for a person: what it is for, what it costs, and what keeps it off an Edge TPU."""
