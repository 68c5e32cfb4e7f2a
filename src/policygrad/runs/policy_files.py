"""Policies on disk: arrays and JSON that act on raw observations without an environment."""

from pathlib import Path
from typing import Any

import jax
from gymnasium import spaces

from policygrad.core.errors import RunError
from policygrad.core.modules import is_array
from policygrad.policies.agent import Agent
from policygrad.policies.space_policy import NetworkPolicy, network_policy
from policygrad.runs import storage
from policygrad.runs.directory import CONFIG, POLICY, RunDirectory
from policygrad.spaces import space_from_json, space_of


def policy_to_files(
    policy: Any, observation_space: spaces.Space, action_space: spaces.Space
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a policy, and the JSON from which `load` builds its structure again."""
    data: dict[str, Any] = {
        "observation_space": space_of(observation_space).to_json(),
        "action_space": space_of(action_space).to_json(),
        "class": f"{type(policy).__module__}.{type(policy).__qualname__}",
        "network": None,
    }
    if isinstance(policy, NetworkPolicy):
        data["network"] = {
            "hidden": [len(bias) for bias in policy.network.biases[:-1]],
            "squash": policy.squash,
            "clipped": policy.clipped,
            "normalise_observations": policy.normaliser.normalises,
        }
    return storage.to_arrays(policy, "policy"), data


def load(path: str | Path, *, like: Any = None) -> Agent:
    """A saved policy, ready to act on raw observations without an environment.

    Args:
        path: a run directory, a checkpoint directory, or a policy file.
        like: a policy of the user's own class with the structure that was saved; needed where the
            policy is not one of this library's networks, whose structure is saved with them.

    Returns:
        An `Agent`: `agent(observation)` is the distribution, `agent.act(observation)` the action.

    Raises:
        RunError: nothing there, or a file that is damaged, foreign, or of a newer format. Files are
            read as arrays and JSON; nothing in them is ever executed.
    """
    stem = _find(Path(path))
    tensors, description = storage.pair(stem)
    arrays, data = storage.load(stem)
    try:
        observation_space = space_from_json(data["observation_space"]).to_gymnasium()
        action_space = space_from_json(data["action_space"]).to_gymnasium()
        network = data["network"]
        if like is None and network is not None:
            like = network_policy(jax.random.key(0), observation_space, action_space, **network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{description} describes no policy: {error!r}") from error
    if like is None:
        raise RunError(
            f"{description} holds a policy of the class {data.get('class')}, which is not this "
            "library's: pass like=, a policy of that class"
        )
    policy = storage.from_arrays(like, arrays, "policy", tensors)
    policy = jax.tree.map(lambda x: jax.numpy.asarray(x) if is_array(x) else x, policy)
    return Agent(policy, observation_space, action_space)


def _find(path: Path) -> Path:
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix("")
    if (path / CONFIG).exists():
        run = RunDirectory.open(path)
        # an interrupted run may not have written its policy yet; a checkpoint holds it too
        if (path / f"{POLICY}.json").exists():
            return path / POLICY
        return run.newest_checkpoint() / "state"
    if (path / "state.json").exists():
        return path / "state"
    raise RunError(f"no run or policy at {path}")
