"""G2, G4, G10 against kill -9."""

from pathlib import Path

import pytest

from acceptance.attack import CONCURRENCY, Attack
from simulator import simulator


@pytest.mark.serial
def test_kill_at_random_moments(tmp_path: Path, kills: int) -> None:
    """No item is lost, none is doubled, and only calls that were sent and not yet committed are paid again.

    A tenth of the kills of `make bench`; --kills says how many.
    """
    with simulator("--latency", "lognormal:0.03,0.5") as provider:
        attack = Attack(tmp_path, provider, seed=20)
        attack.run(kills)
    assert attack.kills == kills
    assert attack.kills_in_commit >= kills // 4
    assert attack.most_lost <= 3 * CONCURRENCY
