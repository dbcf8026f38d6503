"""Models: the contents of a .tflite file, its labels, and the cluster's repository of models."""

from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository, Stored
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import Model
from clusteradm.models.upload import Upload, prepare

__all__ = ["Model", "NotAModel", "Reference", "Repository", "Stored", "Upload", "inspect", "prepare"]
