"""The Edge TPU and its runtime: library, interpreter, tensors, and what a probe runs in a child process."""
