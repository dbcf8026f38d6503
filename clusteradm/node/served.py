"""Desired state of serving, as it lies on the head: for what serves, and for what keeps the models that are served."""

import os
import stat

from clusteradm.node import paths
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.serving import DESIRED, MOST_BYTES, SERVING, DesiredState


def path_of(shared: str) -> str:
    """The file's path."""
    return os.path.join(shared, SERVING, DESIRED)


def read(shared: str) -> DesiredState:
    """The state; revision 0 where none was ever stored. Raises OSError, and WireError for a file that is none."""
    path = path_of(shared)
    try:
        with open(path, "rb", opener=paths.opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise WireError("no regular file")
            data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise WireError("more than %d bytes" % MOST_BYTES)
            return decode(DesiredState, loads(data))
    except FileNotFoundError:
        return DesiredState(0)
    except WireError as error:
        raise WireError(
            "%s cannot be read (%s). Move it away, and deploy the models anew: nothing is forgotten in silence"
            % (path, error)
        ) from None
