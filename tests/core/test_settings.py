"""Settings as people write them: taken where it is clear, else one line that names them."""

import numpy as np
import optax
import pytest

from policygrad.core.elsewhere import SAME, UNLIKE, translated, unknown_setting
from policygrad.core.errors import UserError
from policygrad.training.config import TrainConfig
from policygrad.training.entry import make_config

TAKEN = {
    "total_steps": [(1e5, 100_000), (np.int64(7), 7), (np.float32(8), 8)],
    "hidden": [
        (64, (64,)),
        ([32, 16], (32, 16)),
        ((), ()),
        (np.array([8, 4]), (8, 4)),
        (8.0, (8,)),
    ],
    "seed": [(np.int32(3), 3), (4.0, 4)],
    "discount": [(1, 1.0), (np.float32(0.5), 0.5)],
    "batch_episodes": [(8.0, 8), ("adaptive", "adaptive")],
    "processes": [(np.bool_(True), True)],
}


@pytest.mark.parametrize("name", list(TAKEN))
def test_case_09_numbers_as_people_write_them_are_taken(name):
    for given, held in TAKEN[name]:
        value = getattr(TrainConfig(**{name: given}), name)
        assert value == held
        assert type(value) is type(held)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("total_steps", 1.5, "must be a whole number at least 1, got 1.5"),
        ("total_steps", "1e5", "must be a whole number"),
        ("total_steps", float("nan"), "must be a whole number"),
        ("seed", None, "from 0 to 2147483647, got None"),
        ("seed", 2**40, "from 0 to 2147483647"),
        ("hidden", "64,64", "a list of numbers, each a whole number"),
        ("hidden", True, "a list of numbers, each a whole number"),
        ("hidden", [8, True], "must be a whole number"),
        ("discount", "0.9", "must be from 0 to 1, got '0.9'; that is text: write the number with"),
        ("step_size", "fast", "must be more than 0, got 'fast'$"),
        ("step_size", lambda p: p, "a function or a schedule is not taken here"),
        ("step_size", optax.linear_schedule(1.0, 0.0, 3), "or a schedule is not taken here"),
        ("num_envs", True, "must be a whole number"),
        ("normalise_observations", "no", "must be True or False, got 'no'"),
        ("scale_rewards", "False", "must be True or False, got 'False'"),
        ("normalise_advantages", "no", "must be True or False, got 'no'"),
        ("tensorboard", 1, "must be True or False, got 1"),
        ("checkpoint_seconds", "often", "must be at least 0, got 'often'"),
    ],
)
def test_fault_08_a_setting_of_another_type_is_named(name, value, words):
    with pytest.raises(UserError, match=words) as error:
        TrainConfig(**{name: value})
    assert "--" + name.replace("_", "-") in str(error.value)


def test_other_libraries_names_are_translated():
    known = TrainConfig.__dataclass_fields__
    assert set(SAME.values()) <= set(known)
    assert not (set(SAME) | set(UNLIKE)) & set(known)
    for name in (*SAME, *UNLIKE):
        with pytest.raises(UserError, match=f"unknown setting '{name}'; ") as error:
            make_config({name: 1})
        assert (translated(name) or "?") in str(error.value)
    assert translated("--gae-lam", flags=True) == "here it is called --gae-lambda"
    assert translated("discounts") is None
    expected = "unknown setting 'discounts', did you mean discount?"
    assert unknown_setting("discounts", known) == expected
    assert unknown_setting("batch_step", known, flags=True).endswith("did you mean --batch-steps?")
    told = "unknown setting 'lerning-rate', did you mean learning_rate? here it is called "
    assert unknown_setting("lerning-rate", known) == f"{told}step_size"
    assert unknown_setting("lerning-rate", known, flags=True) == f"{told}--step-size"
    assert unknown_setting("zzz", known) == "unknown setting 'zzz'"
