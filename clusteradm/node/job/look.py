"""Look at a place that a job does without: `python3 -m clusteradm.node.job.look SPEC-OF-THE-MODEL [PCI-ADDRESS]`.

Run on the place's host, as the cluster user. It ends with status 0 if a rank could work there: the model can be read,
and runs on the TPU with this address. Loads the model as a rank does, in a time limit.
"""

import json
import os
import signal
import sys
from typing import List

SECONDS = 30  # to load the model and to try it; the driver waits up to 12 s for a chip that does not wake


def main(arguments: List[str]) -> None:
    """The program. `arguments`: [path, sha256] of the model as JSON; the address, none for the CPU."""
    signal.alarm(SECONDS)
    path, sha256 = json.loads(arguments[0])
    if len(arguments) == 1:
        sys.exit(0 if os.access(path, os.R_OK) else 1)
    from clusteradm.node.edgetpu.engine import Engine, read_model

    Engine(read_model(path, sha256), arguments[1]).warm_up()


if __name__ == "__main__":
    main(sys.argv[1:])
