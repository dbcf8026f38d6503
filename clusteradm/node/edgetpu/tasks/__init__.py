"""Post-processing by task: a model's output tensors to a result in JSON form.

Used by the ranks of a job and by whatever else runs models: numpy and Pillow only, no MPI, no interpreter.
"""

from clusteradm.node.edgetpu.tasks.reader import Reader
from clusteradm.node.spec.reading import NoReading

__all__ = ["NoReading", "Reader"]
