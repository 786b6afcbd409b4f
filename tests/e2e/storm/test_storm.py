"""The storm in short: no accepted job is lost, doubled or silently wrong, whatever is killed."""

from __future__ import annotations

import pytest

from tests.e2e.storm import course
from tests.e2e.storm.fleet import SHAPES

pytestmark = pytest.mark.e2e

SEED = 3
SECONDS = 5


@pytest.mark.rare("embedded")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_promise_is_kept_in_a_storm(shape, tmp_path):
    report = course.run(shape, SEED, SECONDS, tmp_path, show=lambda _: None)
    assert report.violations == {}, report.histories
    assert report.harms.total() > 0
    assert report.jobs["succeeded"] > 0
