"""What is said about names that are not known."""

import pytest

from policygrad import environments
from policygrad.core.errors import UserError


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("brax/ant", r"'brax' is neither an engine \(gymnasium, envpool, gymnax\) nor a namespace"),
        ("cartpole-v1", r"did you mean CartPole-v1"),
        ("CartPole", r"did you mean CartPole-v1"),
        ("CartPole-v3", r"did you mean CartPole-v1"),
        ("no_such_module:X-v0", r"is its folder the current one, or on PYTHONPATH"),
    ],
)
def test_case_25_names_get_the_right_hint(name, found):
    with pytest.raises(UserError, match=found):
        environments.make(name, 2)
