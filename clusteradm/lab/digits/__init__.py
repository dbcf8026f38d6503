"""The lab's own model and its input: handwritten digits, real ones."""
