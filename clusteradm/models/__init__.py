"""Models: the contents of a .tflite file, its labels, and the cluster's repository of models.

Imports nothing: processes that convert or split a model need no connections to hosts, whose import takes as long.
"""
