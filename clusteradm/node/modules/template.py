"""template: a file whose content the admin side has rendered."""

from clusteradm.node.modules.copy import place as run

__all__ = ["run"]
