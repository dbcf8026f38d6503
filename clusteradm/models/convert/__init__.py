"""Conversion of trained models to full 8-bit .tflite files. Converters run in processes of their own."""
