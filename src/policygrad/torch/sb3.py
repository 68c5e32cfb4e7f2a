"""The gradient of a Stable-Baselines3 model, measured on fresh episodes of an environment.

    measured = sb3.measure(model, "CartPole-v1", episodes=1000)
    measured.write_report("seen")

What is measured is the policy gradient at the model's parameters, by the advantages that PPO and
A2C themselves use: GAE with the model's γ, λ and value network, the value of the last observation
added where a time limit cut the episode. That each minibatch's advantages are normalised, and what
PPO clips, is left out.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.comparison import Candidates
from policygrad.diagnostics.intervals import GROUPS
from policygrad.diagnostics.sketch import CountSketch
from policygrad.gradients import baselines, estimators
from policygrad.gradients.weights import EstimatorState
from policygrad.torch.critic import ModuleValues
from policygrad.torch.gradients import TorchPolicy, differentiated
from policygrad.torch.measured import MeasuredPolicy, measured_by
from policygrad.torch.playing import LONGEST, Env, acting, collect

__all__ = ["candidates_of", "collect", "measure", "policy_of"]

IN_USE, WITH, WITHOUT = "in use", "with baseline", "without baseline"
LAMBDAS = (0.5, 0.9, 0.95, 0.99)  # 1 is rewards to go less the values


def measure(
    model: Any,
    env: Env,
    *,
    episodes: int = 1000,
    seed: int = 0,
    sketch_width: int | None = None,
    decompose: bool = False,
    max_steps: int = LONGEST,
    groups: int = GROUPS,
) -> MeasuredPolicy:
    """The noise of the model's gradient, and its estimator beside others on the same episodes.

    Args:
        model: a PPO or A2C of Stable-Baselines3, or of a library that derives from its
            `OnPolicyAlgorithm`, and whose policy acts by the observation alone: neither by a memory
            nor by a mask of actions that the environment gives beside it. Nothing of it is changed.
        env: an id, an environment, or a function that makes one. The plain environment: a
            `VecNormalize` of the model's is applied to it.
        episodes: how many.
        seed: of the episodes.
        sketch_width: keep gradients as sketches of this width; for policies of many millions of
            parameters.
        decompose: also split the variance by steps, which takes a few times as long.
        max_steps: an episode that is longer is an error.
        groups: K of the jackknife.

    Returns:
        `MeasuredPolicy`. Its `comparison` is for the batch in use, n_steps · n_envs steps in
        episodes of mean length, against rewards to go less the model's values. Estimators are named
        by the model's settings.

    Raises:
        UserError: no model of that kind, or an argument out of range.
    """
    policy = policy_of(model)
    for name, number, least in (("episodes", episodes, 2), ("max_steps", max_steps, 1)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise UserError(f"{name} must be a whole number, at least {least}, got {number!r}")
    with acting(model):
        sketch = None
        records = collect(model, env, episodes, seed=seed, max_steps=max_steps)
        if sketch_width is not None:
            first = next(records)
            size = differentiated(policy, first).parts[-1].stop
            sketch = CountSketch(size, sketch_width)
            records = _chained(first, records)
        return measured_by(
            policy,
            candidates_of(model),
            records,
            in_use=IN_USE,
            reference=WITH,
            batch_steps=int(model.n_steps) * int(model.n_envs),
            name=_name(env),
            env_steps=int(model.num_timesteps),
            sketch=sketch,
            decompose=decompose,
            groups=groups,
        )


def policy_of(model: Any) -> TorchPolicy:
    """The model's policy and value network.

    Raises:
        UserError: a model without an actor that has log-probabilities, such as DQN or SAC; one
            whose actor reads more than the observation, such as RecurrentPPO and MaskablePPO; one
            with state-dependent exploration.
    """
    policy = getattr(model, "policy", None)
    needed = ("get_distribution", "predict_values", "obs_to_tensor")
    if policy is None or not all(hasattr(policy, name) for name in needed):
        raise UserError(
            f"{type(model).__name__} has no policy gradient; give a PPO or A2C of Stable-Baselines3"
        )
    if more := _read_beside_the_observation(policy):
        raise UserError(
            f"the policy of {type(model).__name__} reads {' and '.join(more)} beside the "
            "observation, and sb3.measure gives it the observation alone; collect whole episodes "
            "yourself, masks of actions as a part of their observations, and measure a "
            "policygrad.torch.TorchPolicy, whose log_probs gets the observations of an episode"
        )
    if getattr(model, "use_sde", False):
        raise UserError(
            "state-dependent exploration (use_sde=True) keeps its noise over several steps, so "
            "that steps have no log-probabilities of their own"
        )
    return TorchPolicy(
        policy, _log_probs, _values, vectorised=not _one_hot(model.observation_space)
    )


def _read_beside_the_observation(policy: Any) -> list[str]:
    """What its distribution needs beside the observation, or has room for: a mask of actions."""
    _, *others = inspect.signature(policy.get_distribution).parameters.values()
    variable = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [
        x.name
        for x in others
        if x.name == "action_masks" or (x.default is x.empty and x.kind not in variable)
    ]


def _one_hot(space: Any) -> bool:
    """Whether observations are made one-hot, which looks at their numbers, so that vmap cannot."""
    if isinstance(space, gymnasium.spaces.Dict):
        return any(_one_hot(x) for x in space.spaces.values())
    return isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete)


def _log_probs(policy: Any, observations: Any, actions: Any) -> Any:
    return policy.get_distribution(observations).log_prob(actions)


def _values(policy: Any, observations: Any) -> Any:
    return policy.predict_values(observations)


def candidates_of(model: Any) -> Candidates:
    """The model's estimator ("in use"), rewards to go with its values and without, and other λ."""
    nothing = EstimatorState((), ())
    own: dict[str, Any] = {"discount": float(model.gamma), "critic": ModuleValues()}
    to_go = estimators.reward_to_go
    found = {
        IN_USE: (estimators.gae(gae_lambda=float(model.gae_lambda), **own), nothing),
        WITH: (to_go(baseline=ModuleValues(), time_limit="bootstraps", **own), nothing),
        WITHOUT: (to_go(baseline=baselines.none(), time_limit="bootstraps", **own), nothing),
    }
    for x in LAMBDAS:
        if x != float(model.gae_lambda):
            found[f"gae_lambda={x:g}"] = estimators.gae(gae_lambda=x, **own), nothing
    return found


def _name(env: Any) -> str:
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(env).__name__


def _chained(first: Trajectories, rest: Iterator[Trajectories]) -> Iterator[Trajectories]:
    yield first
    yield from rest
