"""A short chaos by one seed: at every proven moment the router has what is desired. `make chaos` is the long one."""

import pytest

from tests.e2e.chaos.acts import ACTS
from tests.e2e.chaos.running import Chaos
from tests.e2e.laboratory import laboratory

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]
SEED, SECONDS = 7, 12.0


def test_router_has_what_is_proven_whatever_breaks_and_changes() -> None:
    with laboratory("purelb") as lab:
        chaos = Chaos(lab, SEED, ACTS)
        chaos.run(SECONDS)
    assert chaos.checks >= 2
