"""The real digits, where this machine has them or can fetch them."""

from __future__ import annotations

import pytest

from clusteradm.errors import ClusteradmError
from clusteradm.lab.digits import data


@pytest.fixture(scope="session")
def digits() -> data.Split:
    try:
        return data.load()
    except ClusteradmError as error:
        pytest.skip(f"no digits: {error}")
