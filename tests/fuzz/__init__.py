"""Fuzzing of every reader of foreign bytes: `make fuzz`. Its corpus also runs as a unit test."""
