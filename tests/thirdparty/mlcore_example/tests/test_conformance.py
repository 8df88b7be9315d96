"""mlcore's conformance checks."""

import pytest

from mlcore.testing import checks


@pytest.mark.parametrize("check", checks("example"), ids=str)
def test_conformance(check):
    check()
