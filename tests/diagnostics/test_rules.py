"""The doctor's rules, each on an examination that is broken in one place and on a healthy one."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from policygrad.algorithms import PPO, Algorithm, Natural, Vanilla
from policygrad.core.failures import Failure
from policygrad.diagnostics import RULES, Examination, Sample, Spread, diagnose, rules
from policygrad.diagnostics.comparison import Compared, Comparison
from policygrad.diagnostics.examination import series_of
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.standing import Beside
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve

UPDATES = 20
CONTINUOUS = {
    "greatest_entropy": np.nan,
    "action_noise": 0.6,
    "action_components": 8,
    "at_bounds": 0.1,
}


def sample(**changes: Any) -> Sample:
    """CartPole, half learned."""
    return replace(
        Sample(
            episodes=64,
            steps=6400,
            unfinished=0,
            returns=Spread(100.0, 40.0, 20.0, 300.0),
            lengths=Spread(100.0, 40.0, 20.0, 300.0),
            rewards=Spread(1.0, 0.0, 1.0, 1.0),
            rewards_not_finite=0,
            discounted_size=40.0,
            observation_components=4,
            constant_components=0,
            observation_size=Spread(0.5, 0.4, 0.1, 1.2),
            observations_not_finite=0,
            truncated=0.0,
            entropy=0.55,
            greatest_entropy=float(np.log(2)),
            action_noise=np.nan,
            action_components=0,
            off_mode=0.3,
            at_bounds=0.0,
            mean_at_bounds=0.0,
            critic_explains=0.7,
            returns_vary=0.4,
        ),
        **changes,
    )


def series(**changes: Any) -> dict[str, np.ndarray]:
    healthy = {
        "kl": np.full(UPDATES, 0.01),
        "entropy": np.linspace(0.69, 0.55, UPDATES),
        "step_size": np.full(UPDATES, 1e-3),
        "episodes": np.linspace(90, 900, UPDATES),
        "return_mean": np.linspace(20, 100, UPDATES),
        "explained_variance_before": np.linspace(0.0, 0.7, UPDATES),
        "explained_variance_after": np.linspace(0.3, 0.8, UPDATES),
    }
    return healthy | {k: np.asarray(v, float) for k, v in changes.items()}


def examination(
    *, settings: dict | None = None, metrics: dict | None = None, seen: dict | None = None,
    **changes: Any,
) -> Examination:  # fmt: skip
    resolved, _ = resolve(TrainConfig(**(settings or {})), Given())
    found = Examination(
        env="CartPole-v1",
        settings=resolved.config.to_json(),
        algorithm=resolved.algorithm,
        passed_as_objects=(),
        metrics=series(**(metrics or {})),
        env_steps=2048 * UPDATES,
        time_limit=500,
        sample=sample(**(seen or {})),
    )
    return replace(found, **changes)


def judged(ratio: Measured) -> Comparison:
    """A baseline that multiplies the variance so many times."""
    any_ = Measured(0.5, 0.4, 0.6)
    inverse = Measured(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
    found = {"without baseline": Compared(any_, inverse, any_, any_, any_, any_)}
    return Comparison(64, 16, "with baseline", found)


def noisy(low: float) -> Any:
    """As much of `GradientNoise` as the rules read."""
    scale = Measured(3 * low, low, np.inf)
    return SimpleNamespace(total=SimpleNamespace(noise_scale=scale))


def compared(ours: Measured, best: Measured) -> Comparison:
    any_ = Measured(1.0, 0.5, 2.0)
    make = lambda cosine: Compared(any_, any_, any_, any_, any_, cosine)  # noqa: E731
    found = {"in use": make(ours), "--gae-lambda 0.95": make(best)}
    return Comparison(64, 16, "reference", found)


still = np.concatenate([np.full(8, 1e-6), np.full(UPDATES - 8, 0.01)])
flat = np.full(UPDATES, -0.4)
fallen = np.concatenate([np.linspace(20, 900, UPDATES // 2), np.linspace(600, 12, UPDATES // 2)])
LOST = {"returns": Spread(11.0, 5.0, 3.0, 20.0)}
AS_RANDOM = {"returns": Spread(22.0, 12.0, 8.0, 60.0)}
RANDOM = Beside(64, 0, Spread(22.0, 12.0, 8.0, 60.0), Spread(22.0, 12.0, 8.0, 60.0))
unlearned = {"return_mean": 22 + np.resize([-0.3, 0.3, 0.5, -0.5], UPDATES)}
FAR_ABOVE = Beside(64, 0, Spread(943.0, 300.0, 100.0, 1400.0), Spread(900.0, 200.0, 100.0, 1000.0))
ANT = {"returns": Spread(83.0, 120.0, -80.0, 500.0), "lengths": Spread(299.0, 90.0, 50.0, 600.0)}
ended_early = np.minimum(series()["episodes"], 700.0)
halved = np.concatenate([np.linspace(20, 420, UPDATES // 2), np.linspace(380, 203, UPDATES // 2)])
HALVED = {"returns": Spread(203.0, 70.0, 90.0, 500.0)}
NO_BASELINE = {"estimator": "reward-to-go", "baseline": "none", "batch_episodes": 16}
BROKEN: dict[str, list[Examination]] = {
    "rewards-not-finite": [
        examination(seen={"rewards_not_finite": 3}),
        examination(failure=Failure("nan in the cost of environment 2", 64, "reward")),
    ],
    "observations-not-finite": [
        examination(seen={"observations_not_finite": 1}),
        examination(seen={"observations_not_finite": 1, "rewards_not_finite": 1}),
        examination(failure=Failure("inf in the picture of environment 2", 64, "observation")),
    ],
    "mask-permits-nothing": [
        examination(seen={"masks_without_action": 2}),
        examination(failure=Failure("no action in the observation of environment 2", 64, "mask")),
    ],
    "training-stopped": [
        examination(failure=Failure("inf in the reward gradient at update 3", 64, "gradient")),
        examination(failure=Failure("inf in the critic at update 3", 64, "critic")),
        examination(failure=Failure("no observation came", 64)),
    ],
    "rewards-zero": [
        examination(
            seen={"rewards": Spread(0.0, 0.0, 0.0, 0.0)}, metrics={"return_mean": 0 * still}
        ),
        examination(
            seen={"rewards": Spread(0.0, 0.0, 0.0, 0.0)}, metrics={"return_mean": np.nan * still}
        ),
    ],
    "rewards-constant": [
        examination(
            seen={"rewards": Spread(-1.0, 0.0, -1.0, -1.0), "lengths": Spread(200.0, 0, 200, 200)},
            metrics={"return_mean": np.full(UPDATES, -200.0)},
        )
    ],
    "observations-constant": [examination(seen={"constant_components": 4})],
    "rewards-unscaled": [
        examination(seen={"discounted_size": 4e7}),
        examination(metrics={"reward_scale": np.geomspace(1e-7, 1e-5, UPDATES)}),
        examination(seen={"discounted_size": 4e7}, settings={"scale_rewards": False}),
        examination(seen={"discounted_size": 4e-5}, settings={"scale_rewards": False}),
        examination(seen={"discounted_size": np.inf}),
    ],
    "observations-unnormalised": [
        examination(
            settings={"normalise_observations": False},
            seen={"observation_size": Spread(100.0, 90.0, 1.0, 250.0)},
        )
    ],
    "actions-saturated": [
        examination(
            settings={"log_std": 3.0},
            seen={**CONTINUOUS, "at_bounds": 0.95, "action_noise": 20.0},
        ),
        examination(
            settings={"log_std": 3.0, "tanh_gaussian": True},
            seen={**CONTINUOUS, "at_bounds": 0.9, "action_noise": 0.97},
        ),
    ],
    "mean-action-saturated": [
        examination(
            seen={**CONTINUOUS, "at_bounds": 1.0, "mean_at_bounds": 1.0},
            metrics={"return_mean": np.full(UPDATES, -1000.0)},
        ),
    ],
    "time-limit-dominates": [
        examination(seen={"truncated": 1.0, "lengths": Spread(5.0, 0.0, 5.0, 5.0)}),
        examination(
            settings={"time_limit": "terminates"},
            seen={"truncated": 1.0, "lengths": Spread(200.0, 0.0, 200.0, 200.0)},
        ),
    ],
    "batch-of-one-episode": [examination(settings={"batch_episodes": 1}, noise=noisy(10.0))],
    "entropy-bonus-too-large": [
        examination(settings={"entropy_coefficient": 10.0}, seen={"entropy": 0.69}),
        examination(settings={"entropy_coefficient": 0.1}, seen={"entropy": 0.69}),
        examination(
            settings={"entropy_coefficient": 1.0},
            metrics={"entropy": np.linspace(1, 5, UPDATES)},
            seen={**CONTINUOUS, "entropy": 5.0, "at_bounds": 0.9, "action_noise": 9.0},
        ),
    ],
    "entropy-collapsed": [
        # deterministic: no update moves it, although the adapted steps grow
        examination(
            seen={"entropy": 0.001, **LOST},
            metrics={"return_mean": fallen, "kl": np.append([0.01, 0.01], np.zeros(UPDATES - 2))},
        ),
        examination(seen={"entropy": 1e-3}, metrics={"return_mean": np.linspace(100, 9, UPDATES)}),
        examination(
            settings={"log_std": -8.0},
            seen={**CONTINUOUS, "action_noise": 3e-4},
            metrics={"return_mean": np.full(UPDATES, -1000.0)},
        ),
        examination(
            settings={"log_std": "shared"},
            seen={**CONTINUOUS, "action_noise": 3e-4},
            metrics={"return_mean": np.full(UPDATES, -1000.0)},
        ),
    ],
    "return-collapsed": [
        examination(metrics={"return_mean": fallen}, seen=LOST),
        examination(settings={"algorithm": "ppo"}, metrics={"return_mean": fallen}, seen=LOST),
        examination(settings={"algorithm": "natural"}, metrics={"return_mean": fallen}, seen=LOST),
        examination(settings={"algorithm": "trpo"}, metrics={"return_mean": fallen}, seen=LOST),
        examination(settings=NO_BASELINE, metrics={"return_mean": halved}, seen=HALVED),
        # lost from where the run began, which was far above random actions
        examination(
            metrics={"return_mean": np.linspace(420, 30, UPDATES)}, seen=LOST, at_random=RANDOM
        ),
    ],
    "below-random": [
        examination(
            metrics={"return_mean": np.linspace(12, 9.5, UPDATES)},
            seen={"returns": Spread(9.4, 0.8, 8.0, 11.0)},
            at_random=RANDOM,
        )
    ],
    "no-better-than-random": [
        examination(metrics=unlearned, seen=AS_RANDOM, at_random=RANDOM),
        examination(metrics=unlearned, seen=AS_RANDOM, at_random=RANDOM, noise=noisy(300.0)),
    ],
    "noise-costs-most": [
        examination(
            settings={"algorithm": "natural"},
            seen={**CONTINUOUS, "action_noise": 0.43, **ANT},
            metrics={"return_mean": np.linspace(-30, 83, UPDATES)},
            at_random=replace(RANDOM, returns=Spread(-60.0, 80.0, -300.0, -1.0)),
            by_mode=FAR_ABOVE,
        ),
        # samples that are as good as random actions
        examination(
            settings={"algorithm": "ppo", "entropy_coefficient": 0.01},
            seen=AS_RANDOM,
            metrics=unlearned,
            at_random=RANDOM,
            by_mode=FAR_ABOVE,
        ),
    ],
    "mode-loses-most": [
        examination(
            at_random=RANDOM,
            by_mode=replace(RANDOM, returns=Spread(9.4, 0.8, 8.0, 11.0)),
            seen={"entropy": 0.3},
        ),
        examination(
            settings={"algorithm": "natural"},
            seen=CONTINUOUS,
            at_random=RANDOM,
            by_mode=replace(RANDOM, unfinished=64),
        ),
    ],
    "no-episode-ends": [
        examination(seen={"unfinished": 64}),
        examination(
            seen={"unfinished": 64}, at_random=RANDOM, by_mode=replace(RANDOM, unfinished=64)
        ),
        examination(seen={"unfinished": 40}, at_random=RANDOM),
        examination(seen={"unfinished": 64}, metrics={"episodes": np.zeros(UPDATES)}),
        examination(time_limit=None, seen={"unfinished": 64}, metrics={"episodes": ended_early}),
    ],
    "step-size-too-large": [
        examination(metrics={"kl": np.full(UPDATES, 0.4)}),
        examination(metrics={"kl": np.append(3.0, np.full(UPDATES - 1, 0.01))}),
        examination(metrics={"kl": np.append(np.full(UPDATES - 3, 0.01), [3.0, 3.0, 3.0])}),
        examination(
            settings={"target_kl": 0.0}, metrics={"kl": np.append(np.full(UPDATES - 1, 0.01), 3.0)}
        ),
        examination(settings={"algorithm": "natural", "target_kl": 2.0}, metrics={"kl": flat + 2}),
        examination(settings={"algorithm": "ppo"}, metrics={"step_size": np.full(UPDATES, 0.03)}),
        examination(
            metrics={"kl": np.full(UPDATES, 0.4)}, passed_as_objects=("algorithm",), algorithm=None
        ),
    ],
    "step-size-too-small": [
        examination(metrics={"kl": np.full(UPDATES, 1e-7)}),
        examination(metrics={"kl": still, "step_size": np.geomspace(1e-6, 1e-3, UPDATES)}),
    ],
    "batch-below-noise-scale": [
        examination(settings={"batch_episodes": 2}, noise=noisy(100.0)),
        examination(settings={"batch_steps": 128}, noise=noisy(100.0)),
    ],
    "too-few-episodes": [examination(metrics={"episodes": np.linspace(0, 4, UPDATES)})],
    "discount-too-low": [examination(settings={"discount": 0.5})],
    "discount-too-high": [
        examination(
            settings={"discount": 1.0},
            seen={"truncated": 1.0, "lengths": Spread(200.0, 0.0, 200.0, 200.0)},
        )
    ],
    "lambda-too-low": [
        examination(settings={"gae_lambda": 0.0}, seen={"critic_explains": -0.5}),
        examination(
            settings={"gae_lambda": 0.0, "critic_step_size": 1e-9},
            seen={"critic_explains": -0.5},
        ),
        examination(settings={"estimator": "td"}, seen={"critic_explains": 0.0}),
        examination(settings={"estimator": "n-step", "n": 1}, seen={"critic_explains": 0.0}),
    ],
    "critic-not-trained": [
        examination(settings={"critic_step_size": 1e-12}, seen={"critic_explains": -0.5}),
        examination(
            metrics={"explained_variance_before": flat, "explained_variance_after": flat},
            seen={"critic_explains": -0.5},
            passed_as_objects=("estimator",),
        ),
    ],
    "critic-explains-nothing": [
        examination(
            metrics={"explained_variance_before": flat, "explained_variance_after": flat + 0.2},
            seen={"critic_explains": -0.5},
        )
    ],
    "critic-overfits": [
        examination(
            metrics={"explained_variance_before": flat + 0.4, "explained_variance_after": -2 * flat}
        )
    ],
    "baseline-hurts": [examination(comparison=judged(Measured(4.0, 2.0, 8.0)))],
    "lambda-far-from-best": [
        examination(comparison=compared(Measured(0.1, 0.0, 0.2), Measured(0.8, 0.7, 0.9)))
    ],
}


@pytest.mark.parametrize(
    ("name", "broken"), [(name, e) for name, cases in BROKEN.items() for e in cases]
)
def test_every_rule_names_what_was_broken_first(name, broken):
    findings = diagnose(broken)
    assert findings[0].name == name
    for text in (findings[0].cause, findings[0].evidence, findings[0].change):
        assert text
        for fine in ("nan or infinite", "nan, infinite", "nan in the"):
            text = text.lower().replace(fine, "")
        assert "nan" not in text
    json.dumps(findings[0].to_json(), allow_nan=False)


def test_every_rule_is_tested_and_carries_its_thresholds_and_source():
    assert [rule.name for rule in RULES] == list(dict.fromkeys(rule.name for rule in RULES))
    assert {rule.name for rule in RULES} == set(BROKEN)
    for rule in RULES:
        assert rule.thresholds, rule.name
        assert len(rule.source) > 20, rule.name
        assert 0 < rule.weight <= 1, rule.name
        assert set(rule.explains) <= {*BROKEN, "*"}, rule.name


HEALTHY = {
    "half learned": examination(),
    "before the first update": examination(metrics={k: [] for k in series()}, env_steps=0),
    "no episode ended yet": examination(sample=None, metrics={"episodes": np.full(UPDATES, 50)}),
    "solved, so that all returns are equal": examination(
        seen={"returns": Spread(500.0, 0.0, 500.0, 500.0), "truncated": 1.0, "entropy": 0.01,
              "lengths": Spread(500.0, 0.0, 500.0, 500.0)},
        metrics={"return_mean": np.linspace(20, 500, UPDATES)},
    ),
    "solved, so that the critic has nothing to explain": examination(
        metrics={"explained_variance_before": 4 * flat, "explained_variance_after": flat},
        seen={"returns_vary": 0.02, "critic_explains": -0.6},
    ),
    "a continuing task": examination(
        seen={**CONTINUOUS, "truncated": 1.0, "rewards": Spread(-6.0, 3.0, -16.0, 0.0),
              "lengths": Spread(200.0, 0.0, 200.0, 200.0), "discounted_size": 600.0},
    ),
    "solved and deterministic, so that nothing moves": examination(
        seen={"entropy": 0.001}, metrics={"kl": np.zeros(UPDATES)}
    ),
    "bang-bang": examination(
        seen={**CONTINUOUS, "at_bounds": 1.0, "mean_at_bounds": 1.0, "action_noise": 0.3}
    ),
    "wide noise around a mean at a bound": examination(
        settings={"log_std": 0.0},
        seen={**CONTINUOUS, "at_bounds": 0.8, "mean_at_bounds": 0.9, "action_noise": 1.0},
    ),
    "natural steps, of which one in many went too far": examination(
        settings={"algorithm": "natural", "target_kl": 0.02},
        metrics={"kl": np.append(np.full(UPDATES - 1, 0.02), 1.2)},
    ),
    "an adapted step, of which one in many went too far": examination(
        metrics={"kl": np.append(np.full(UPDATES - 1, 0.01), 0.8)},
    ),
    "early episodes were few and lucky": examination(
        metrics={"return_mean": np.append(-180, np.linspace(-700, -200, UPDATES - 1))},
        seen={"returns": Spread(-200.0, 0.0, -200.0, -200.0)},
    ),
    "deterministic, and below its best by chance": examination(
        seen={"entropy": 0.02, "returns": Spread(0.73, 0.44, 0.0, 1.0)},
        metrics={"return_mean": np.append(np.linspace(0.01, 0.81, UPDATES - 1), 0.7)},
    ),
    "a return that is down for a few episodes": examination(
        metrics={"return_mean": fallen}, seen={"returns": Spread(700.0, 40.0, 20.0, 900.0)}
    ),
    "returns that vary by more than they fell": examination(
        metrics={"return_mean": fallen}, seen={"returns": Spread(11.0, 500.0, 3.0, 1000.0)}
    ),
    "two thirds of the best": examination(
        metrics={"return_mean": np.append(fallen[: UPDATES // 2], np.full(UPDATES // 2, 600.0))},
        seen=LOST,
    ),
    "no better than random actions yet": examination(
        metrics={k: x[:10] for k, x in series(**unlearned).items()}, seen=AS_RANDOM,
        at_random=RANDOM,
    ),
    "as good as random actions, none of which does better than another": examination(
        metrics={"return_mean": np.full(UPDATES, 9.0)},
        seen={"returns": Spread(9.0, 0.1, 8.9, 9.1)},
        at_random=replace(RANDOM, returns=Spread(9.0, 0.3, 7.0, 9.1)),
    ),
    "above random actions, which do well": examination(
        metrics={"return_mean": np.linspace(22, 30, UPDATES)},
        seen={"returns": Spread(30.0, 12.0, 8.0, 70.0)},
        at_random=RANDOM,
    ),
    "below random actions still, and rising": examination(
        metrics={"return_mean": np.linspace(-900, -300, UPDATES)},
        seen={"returns": Spread(-300.0, 80.0, -500.0, -100.0)},
        at_random=replace(RANDOM, returns=Spread(-200.0, 80.0, -400.0, -100.0)),
    ),
    "choices that are mostly random still, of a policy that learns": examination(
        at_random=RANDOM, by_mode=FAR_ABOVE, seen={"entropy": 0.4}
    ),
    "noise that goes by itself": examination(
        seen={**CONTINUOUS, "returns": Spread(420.0, 120.0, 200.0, 700.0)},
        metrics={"return_mean": np.linspace(20, 420, UPDATES)},
        at_random=RANDOM,
        by_mode=FAR_ABOVE,
    ),
    "a mode that is somewhat better": examination(
        seen=CONTINUOUS, at_random=RANDOM,
        by_mode=replace(RANDOM, returns=Spread(150.0, 40.0, 20.0, 300.0)),
    ),
    "a mode that is somewhat worse": examination(
        seen=CONTINUOUS, at_random=RANDOM,
        by_mode=replace(RANDOM, returns=Spread(70.0, 40.0, 20.0, 300.0)),
    ),
    "episodes as long as a limit that was asked for": examination(
        settings={"max_episode_steps": 50, "batch_episodes": 16}, seen={"unfinished": 64}
    ),
    "episodes that go on beyond where the doctor stops them": examination(
        time_limit=None, seen={"unfinished": 64}
    ),
    "stopped episodes of a return that has dipped": examination(
        time_limit=None, seen={**HALVED, "unfinished": 1}, metrics={"return_mean": halved}
    ),
    "a small bonus": examination(settings={"entropy_coefficient": 0.01}, seen={"entropy": 0.69}),
    "one-step episodes that show nothing": examination(
        seen={"constant_components": 4, "lengths": Spread(1.0, 0.0, 1.0, 1.0)}
    ),
    "nothing for a critic to explain, and λ = 0": examination(
        settings={"gae_lambda": 0.0}, seen={"critic_explains": -2.0, "returns_vary": 0.01}
    ),
    "a good critic and λ = 0": examination(
        settings={"gae_lambda": 0.0}, seen={"critic_explains": 0.95}
    ),
    "short episodes and a low discount": examination(
        settings={"discount": 0.5}, seen={"lengths": Spread(5.0, 2.0, 1.0, 9.0)}
    ),
    "a low discount, and returns that end with a point": examination(
        settings={"discount": 0.5, "resets_at_rewards": True}
    ),
    "points in episodes that a limit cuts": examination(
        settings={"discount": 1.0, "resets_at_rewards": True},
        seen={"truncated": 1.0, "lengths": Spread(200.0, 0.0, 200.0, 200.0)},
    ),
    "points in episodes that a limit ends": examination(
        settings={"time_limit": "terminates", "resets_at_rewards": True},
        seen={"truncated": 1.0, "lengths": Spread(200.0, 0.0, 200.0, 200.0)},
    ),
    "whole returns of episodes that a limit ends": examination(
        settings={"estimator": "total-return", "batch_episodes": 16},
        seen={"truncated": 1.0, "lengths": Spread(5.0, 0.0, 5.0, 5.0)},
    ),
    "whole returns of a group's episodes that a limit ends": examination(
        settings={"estimator": "rloo", "batch_episodes": 16, "group_size": 4},
        seen={"truncated": 1.0, "lengths": Spread(200.0, 0.0, 200.0, 200.0)},
    ),
    "a large batch below the noise scale": examination(noise=noisy(1e6)),
    "a small batch above the noise scale": examination(
        settings={"batch_episodes": 2}, noise=noisy(1.0)
    ),
    "a baseline that hurts a little, perhaps": examination(
        comparison=judged(Measured(2.0, 0.9, 4.0))
    ),
    "another estimator is a little better": examination(
        comparison=compared(Measured(0.5, 0.4, 0.6), Measured(0.8, 0.7, 0.9))
    ),
    "unnormalised observations of unit size": examination(
        settings={"normalise_observations": False}
    ),
    "no critic": examination(
        settings={"estimator": "reward-to-go", "baseline": "constant", "batch_episodes": 16},
    ),
}  # fmt: skip


def test_a_collapse_tells_the_return_of_training_where_episodes_were_stopped():
    """The returns 100 of the fresh ones lack what comes later."""
    for limit, told in ((None, "is 9 "), (500, "is 100 ")):
        (found,) = (
            each for each in diagnose(examination(
                time_limit=limit, seen={"entropy": 1e-3, "unfinished": 1},
                metrics={"return_mean": np.linspace(90, 9, UPDATES)},
            )) if each.name == "entropy-collapsed"
        )  # fmt: skip
        assert f"the mean return {told}and was 90 at its best" in found.evidence


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found_where_nothing_is_wrong(name):
    assert diagnose(HEALTHY[name]) == ()


@pytest.mark.parametrize(
    ("size", "factor"),
    [(4e-5, "1e+05"), (0.00999999999, "1e+03"), (301.0, "1e-02"), (4e7, "1e-07"), (1e3, "1e-03")],
)
def test_the_advised_factor_is_a_power_of_ten_near_the_size(size, factor):
    (found,) = diagnose(
        examination(seen={"discounted_size": size}, settings={"scale_rewards": False})
    )
    assert found.name == "rewards-unscaled"
    assert f"by about {factor} in" in found.change


def test_a_size_of_almost_one_has_an_advised_factor():
    """A power of ten whose digits round up to the next, with thresholds that look at it."""
    rule = next(rule for rule in RULES if rule.name == "rewards-unscaled")
    narrow = replace(rule, thresholds={"least": 2.0, "most": 300.0, "most_scaled": 1e5})
    almost = examination(seen={"discounted_size": 0.99999999}, settings={"scale_rewards": False})
    assert "by about 1e+01 in" in narrow(almost).change


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Own(Algorithm):
    """An algorithm that no rule knows."""

    step_size: float = 1e-2

    def start(self, differentiated):
        return ()

    def improve(self, key, policy, improver, batch):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("algorithm", "objects", "advice"),
    [
        (Vanilla(step_size=1.0), (), "Train with --step-size 0.001 in place of 1."),
        (
            Vanilla(step_size=2e-3, target_kl=0.0), (),
            "Train with --step-size 0.0002 in place of 0.002, and --target-kl 0.01, which adapts "
            "it.",
        ),
        (Natural(target_kl=0.05), (), "Train with --target-kl 0.025 in place of 0.05."),
        (PPO(), (), "Train with --step-size 3e-05 in place of 0.0003."),
        (Own(step_size=0.5), ("algorithm",), "Give Own step_size=0.01 in place of 0.5."),
        (None, ("algorithm",), "Give the algorithm a smaller step size."),
    ],
)  # fmt: skip
def test_the_advice_follows_from_the_algorithm(algorithm, objects, advice):
    leaping = examination(metrics={"kl": np.full(UPDATES, 2.0)}, algorithm=algorithm)
    (found,) = diagnose(replace(leaping, passed_as_objects=objects))
    assert (found.name, found.change) == ("step-size-too-large", advice)


def test_the_rules_do_not_import_the_training_that_they_judge():
    folder = Path(rules.__file__).parent
    for path in folder.glob("*.py"):
        assert "policygrad.training" not in path.read_text(), path.name


def test_a_cause_leaves_out_what_it_explains():
    """Everything is wrong at once; NaN explains all of it."""
    wrong = examination(
        settings={"gae_lambda": 0.0, "critic_step_size": 1e-12, "discount": 0.5},
        metrics={"kl": np.full(UPDATES, 5.0), "explained_variance_before": flat},
        seen={"critic_explains": -1.0, "constant_components": 4, "rewards_not_finite": 1},
    )
    assert [f.name for f in diagnose(wrong)] == ["rewards-not-finite"]
    seeing = replace(sample(critic_explains=-1.0))
    names = [f.name for f in diagnose(replace(wrong, sample=seeing))]
    assert names == ["step-size-too-large", "discount-too-low"]


def test_the_likeliest_cause_comes_first():
    for cases in BROKEN.values():
        weights = [f.weight for f in diagnose(cases[0])]
        assert weights == sorted(weights, reverse=True)


def test_an_examination_is_plain_data():
    found = json.dumps(examination(metrics={"return_mean": [np.nan, 2.0]}).to_json())
    assert json.loads(found)["metrics"]["return_mean"] == [None, 2.0]


def test_series_of_lines_with_gaps():
    rows = [{"kl": 0.1, "return_mean": None}, {"kl": 0.2, "return_mean": 3, "text": "no"}]
    found = series_of(rows)
    assert set(found) == {"kl", "return_mean"}
    np.testing.assert_array_equal(found["kl"], [0.1, 0.2])
    np.testing.assert_array_equal(found["return_mean"], [np.nan, 3.0])
