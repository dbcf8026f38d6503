"""Split of a .tflite model into segments that run one after the other, each on an Edge TPU of its own."""
