"""One start of Ray for all the tests of a file."""

import pytest

from policygrad.machines.cluster import Cluster


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, which clusters that are opened meanwhile use too."""
    opened = Cluster()
    yield opened
    opened.close()
