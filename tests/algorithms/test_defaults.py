"""The defaults of each algorithm: those of its paper, or those that the guide gives."""

import re

import pytest

from policygrad.algorithms import PPO, SGD, TRPO, Adam, Natural, RMSprop, Vanilla
from policygrad.core.reflection import values_of
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from tests.worlds import ROOT

NATURAL = {
    "entropy_coefficient": 0.0, "step_size_schedule": "linear", "target_kl": 0.03,
    "cg_iterations": 10, "damping": 0.1, "fisher_share": 1.0,
}  # fmt: skip
DEFAULTS = {
    Vanilla: {
        "entropy_coefficient": 0.0, "step_size_schedule": "constant", "step_size": 1e-3,
        "target_kl": 0.01, "max_global_norm": 0.0,
    },
    Natural: NATURAL,
    TRPO: NATURAL | {"backtracks": 10, "kl_slack": 1.5},
    PPO: {
        "entropy_coefficient": 0.0, "step_size_schedule": "linear", "step_size": 3e-4,
        "target_kl": 0.0, "max_global_norm": 0.5, "clip_ratio": 0.2, "ppo_epochs": 10,
        "ppo_minibatches": 32,
    },
    Adam: {"adam_epsilon": 1e-5, "log_std_step": 1.0},
    RMSprop: {"log_std_step": 1.0},
    SGD: {},
}  # fmt: skip
OPTIMISERS = {Vanilla: Adam(log_std_step=10.0), PPO: Adam()}


@pytest.mark.parametrize("record", DEFAULTS)
def test_defaults(record):
    assert dict(values_of(record())) == DEFAULTS[record]


@pytest.mark.parametrize("record", OPTIMISERS)
def test_default_optimisers(record):
    assert record().optimiser == OPTIMISERS[record]


def test_what_an_algorithm_suggests_and_whether_a_kl_sizes_its_steps():
    assert {record: record.sized_by_kl for record in (Vanilla, Natural, TRPO, PPO)} == {
        Vanilla: False, Natural: True, TRPO: True, PPO: False,
    }  # fmt: skip
    own = {"discount": 0.995, "critic_epochs": 20, "clipped_gaussian": True, "log_std": "shared"}
    assert dict(Natural.suggests) == dict(TRPO.suggests) == own
    assert dict(Vanilla.suggests) == dict(PPO.suggests) == {}


def test_the_guide_gives_the_defaults_that_an_algorithm_selects():
    page = (ROOT / "docs" / "training.md").read_text()
    _, table = page.split("`--algorithm` also selects these defaults:")
    settings = re.findall(r"^\| `--([a-z-]+)`[^|]* \|(.*?)\|(.*?)\|(.*?)\|", table, re.MULTILINE)[
        :9
    ]
    assert settings[-1][0] == "log-std"
    for i, algorithms in enumerate((["vanilla"], ["natural", "trpo"], ["ppo"]), 1):
        for algorithm in algorithms:
            config = resolve(TrainConfig(algorithm=algorithm), Given())[0].config
            for name, *cells in settings:
                value, said = getattr(config, name.replace("-", "_")), cells[i - 1].strip()
                number = isinstance(value, float)
                shown = "not used" if value is None else f"{value:g}" if number else value
                assert said.split(":")[0] == str(shown), (name, algorithm)
