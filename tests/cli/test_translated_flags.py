"""Flags of other libraries are answered with what there is in their place."""

import pytest

from policygrad.cli.options import refuse_translated
from policygrad.core.errors import UserError


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gamma", "unknown flag --gamma; here it is called --discount"),
        ("learning_rate", "unknown flag --learning-rate; here it is called --step-size"),
        ("n_steps", "--n-steps; batch_steps counts the steps of all environments together"),
        ("vf_coef", "the critic is fitted apart from the policy"),
        ("env_id", "the environment is the first argument"),
        ("total_timesteps", "here it is called --total-steps"),
    ],
)
def test_further_flags_of_other_libraries(name, words):
    with pytest.raises(UserError, match=words):
        refuse_translated([name], ["discount", "seed"])
    refuse_translated([name, "nonsense"], [name])
