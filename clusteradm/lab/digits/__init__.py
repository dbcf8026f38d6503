"""Model of the lab and its inputs: a classifier of handwritten digits, and digits to classify."""
