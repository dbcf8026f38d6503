"""The Edge TPU and its runtime: the engine that computes, tensors in and out."""
