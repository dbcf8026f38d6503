"""`python -m clusteradm`."""

import sys

from clusteradm.cli.main import main

sys.exit(main())
