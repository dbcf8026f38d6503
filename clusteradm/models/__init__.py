"""Models: what a .tflite file is, and the cluster's repository of them."""

from clusteradm.models.manifest import Manifest, Model, Tensor
from clusteradm.models.repository import Repository, Stored, Upload, prepare
from clusteradm.models.tflite.inspect import NotAModel, inspect

__all__ = ["Manifest", "Model", "NotAModel", "Repository", "Stored", "Tensor", "Upload", "inspect", "prepare"]
