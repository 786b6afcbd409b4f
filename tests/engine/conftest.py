"""What the engine's tests share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

# The same examples in every run, so that a red test is red for everyone.
settings.register_profile("engine", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("engine")


@pytest.fixture
def rng() -> np.random.Generator:
    """Randomness that is the same in every run."""
    return np.random.default_rng(7)
