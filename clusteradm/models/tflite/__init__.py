"""TensorFlow Lite files, read from their bytes alone: FlatBuffers, the schema, and what a model is."""
