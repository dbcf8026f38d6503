"""Server of a board: `python3 -m clusteradm.node.serve --config FILE`, which clusteradm-serve.service runs."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from typing import Mapping

from clusteradm.node.serve.ports import PortTaken
from clusteradm.node.serve.supervisor import Supervisor
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.serving import ServeConfig


def read(path: str) -> ServeConfig:
    """The configuration in a file. Raises OSError, WireError."""
    with open(path, "rb") as file:
        return decode(ServeConfig, loads(file.read(1 << 20)))


def of_pod(config: ServeConfig, environment: Mapping[str, str]) -> ServeConfig:
    """The configuration with what the environment says of a pod: its host, its address, and the TPUs that a device
    plugin gave it (clusteradm/kubernetes)."""
    tpus = environment.get("CLUSTERADM_TPUS")
    return replace(
        config,
        host=environment.get("CLUSTERADM_HOST", config.host),
        address=environment.get("CLUSTERADM_ADDRESS", config.address),
        tpus=config.tpus if tpus is None else tuple(tpus.split(",")),
    )


async def _serve(config: ServeConfig, runtime: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_event_loop().add_signal_handler(number, stop.set)
    await Supervisor(config, runtime).run(stop)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="clusteradm.node.serve", description="Serve models of the cluster.")
    parser.add_argument("--config", required=True, metavar="FILE", help="serve.json of this board")
    path = parser.parse_args().config
    own = os.environ.get("RUNTIME_DIRECTORY")
    runtime = own or tempfile.mkdtemp(prefix="clusteradm-serve-")
    try:
        config = of_pod(read(path), os.environ)
        os.makedirs(config.cache, exist_ok=True)
        asyncio.run(_serve(config, runtime))
    except (OSError, PortTaken) as error:
        sys.stderr.write("%s\n" % error)
        return 1
    except WireError as error:
        sys.stderr.write("%s: %s: run clusteradm serve up\n" % (path, error))
        return 2
    finally:
        if not own:
            shutil.rmtree(runtime, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
