"""Models: the contents of a .tflite file, its labels, and the cluster's repository of models."""

from clusteradm.models.repository import Repository, Stored, Upload, prepare
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import Model

__all__ = ["Model", "NotAModel", "Repository", "Stored", "Upload", "inspect", "prepare"]
