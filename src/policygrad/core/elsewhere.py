"""What other libraries call a setting of this one: a hint in place of a riddle."""

import difflib
from collections.abc import Iterable, Mapping

from policygrad.core.settings import did_you_mean, flag

SAME = {
    "gamma": "discount",
    "lam": "gae_lambda",
    "lambda": "gae_lambda",
    "gae_lam": "gae_lambda",
    "learning_rate": "step_size",
    "lr": "step_size",
    "pi_lr": "step_size",
    "actor_lr": "step_size",
    "policy_lr": "step_size",
    "vf_lr": "critic_step_size",
    "critic_lr": "critic_step_size",
    "value_lr": "critic_step_size",
    "ent_coef": "entropy_coefficient",
    "entropy_coef": "entropy_coefficient",
    "entropy_coeff": "entropy_coefficient",
    "clip_range": "clip_ratio",
    "clip_coef": "clip_ratio",
    "clip_param": "clip_ratio",
    "clip_eps": "clip_ratio",
    "n_envs": "num_envs",
    "num_environments": "num_envs",
    "steps_per_epoch": "batch_steps",
    "timesteps_per_batch": "batch_steps",
    "train_batch_size": "batch_steps",
    "n_epochs": "ppo_epochs",
    "update_epochs": "ppo_epochs",
    "num_epochs": "ppo_epochs",
    "num_sgd_iter": "ppo_epochs",
    "n_critic_updates": "critic_epochs",
    "num_minibatches": "ppo_minibatches",
    "nminibatches": "ppo_minibatches",
    "max_grad_norm": "max_global_norm",
    "grad_clip": "max_global_norm",
    "total_timesteps": "total_steps",
    "timesteps": "total_steps",
    "n_timesteps": "total_steps",
    "steps": "total_steps",
    "target_kl_divergence": "target_kl",
    "max_kl": "target_kl",
    "delta": "target_kl",
    "cg_iters": "cg_iterations",
    "cg_max_steps": "cg_iterations",
    "cg_damping": "damping",
    "damping_coeff": "damping",
    "backtrack_iters": "backtracks",
    "line_search_max_iter": "backtracks",
    "net_arch": "hidden",
    "hidden_sizes": "hidden",
    "hidden_size": "hidden",
    "layers": "hidden",
    "normalize_advantage": "normalise_advantages",
    "norm_adv": "normalise_advantages",
    "normalize_advantages": "normalise_advantages",
    "normalize_observations": "normalise_observations",
    "norm_obs": "normalise_observations",
    "norm_reward": "scale_rewards",
    "optimizer": "optimiser",
    "track": "wandb",
    "random_seed": "seed",
    "algo": "algorithm",
}
"""Their name -> ours, which takes the same values."""

FIRST = "the environment is the first argument, without a name: train CartPole-v1"
BUILT = "the policy is built for the environment's spaces: leave it out; hidden sizes its layers"
PER_ENVIRONMENT = "batch_steps counts the steps of all environments together: {name} times num_envs"
OF_A_MINIBATCH = (
    "elsewhere it is the size of a minibatch; here ppo_minibatches is the number of minibatches "
    "that a batch is cut into, and batch_steps the size of a batch"
)
APART = "the critic is fitted apart from the policy: there is critic_step_size"
NOT_CLIPPED = "the critic is fitted apart from the policy, and not clipped: leave it out"
JAX = "JAX chooses the device: set JAX_PLATFORMS=cpu or JAX_PLATFORMS=cuda"
SCHEDULES = "step_size_schedule is linear, which shrinks steps to zero over the run, or constant"
SECONDS = "checkpoint_seconds is the time between two checkpoints, in seconds"
HALVED = "the step is halved each time: leave it out; backtracks is the greatest number of halvings"
EVALUATED = (
    "in Python on_update=policygrad.callbacks.evaluate_every(20_000, episodes=20) evaluates every "
    "20,000 steps; after the run there is policygrad evaluate RUN"
)

WORKERS = (
    "num_envs environments are stepped together; the command's --workers N, or "
    "collector=policygrad.remote(workers=N), collects them in N processes"
)

UNLIKE = {
    "n_steps": PER_ENVIRONMENT,
    "num_steps": PER_ENVIRONMENT,
    "nsteps": PER_ENVIRONMENT,
    "rollout_length": PER_ENVIRONMENT,
    "unroll_length": PER_ENVIRONMENT,
    "rollout_fragment_length": PER_ENVIRONMENT,
    "timesteps_per_actorbatch": PER_ENVIRONMENT,
    "batch_size": OF_A_MINIBATCH,
    "minibatch_size": OF_A_MINIBATCH,
    "mini_batch_size": OF_A_MINIBATCH,
    "sgd_minibatch_size": OF_A_MINIBATCH,
    "train_pi_iters": "ppo_epochs counts passes over a batch, each of ppo_minibatches steps",
    "train_v_iters": "critic_epochs counts passes over a batch, each of many steps",
    "num_workers": WORKERS,
    "n_workers": WORKERS,
    "num_env_runners": WORKERS,
    "num_rollout_workers": WORKERS,
    "vf_coef": APART,
    "value_coef": APART,
    "clip_range_vf": NOT_CLIPPED,
    "clip_vloss": NOT_CLIPPED,
    "use_sde": "there is no state-dependent exploration: leave it out",
    "policy": BUILT,
    "policy_kwargs": "give the policy's settings by themselves: hidden, log_std, tanh_gaussian, …; "
    "or in Python a network=",
    "log_std_init": "log_std is the initial one, in units of half the range of an action",
    "verbose": "leave it out; in Python on_update= receives the metrics of every update",
    "device": JAX,
    "cuda": JAX,
    "env": FIRST,
    "env_id": FIRST,
    "env_name": FIRST,
    "gym_id": FIRST,
    "epochs": "total_steps says how long a run is; ppo_epochs and critic_epochs are passes over a "
    "batch",
    "max_ep_len": "a time limit is the environment's: env_kwargs takes max_episode_steps; the "
    "setting of that name does not cut episodes, a longer one is an error",
    "backtrack_coeff": HALVED,
    "line_search_shrinking_factor": HALVED,
    "save_freq": SECONDS,
    "save_interval": SECONDS,
    "checkpoint_freq": SECONDS,
    "anneal_lr": SCHEDULES,
    "lr_schedule": SCHEDULES,
    "tensorboard_log": "tensorboard is True or False (a flag without a value), and its files go "
    "into the run's directory, out",
    "eval_freq": EVALUATED,
    "eval_env": EVALUATED,
    "n_eval_episodes": EVALUATED,
    "rms_prop_eps": "optimiser rmsprop has no such setting; in Python pass optimiser=optax.…",
    "use_rms_prop": "choose optimiser rmsprop",
    "callback": "in Python on_update= receives every update",
}
"""Their name -> what there is in its place, where that takes other values; {name} is theirs."""

EPISODES = "here it is called episodes"
OF_EVALUATE = {
    "n_eval_episodes": EPISODES,
    "eval_episodes": EPISODES,
    "num_episodes": EPISODES,
    "n_episodes": EPISODES,
    "n_envs": "here it is called num_envs",
    "eval_env": "here it is called env",
    "env_id": "here it is called env",
    "max_steps": "here it is called max_episode_steps",
    "max_ep_len": "here it is called max_episode_steps",
    "random_seed": "here it is called seed",
    "deterministic": "both ways of acting are evaluated, and the result holds both",
    "return_episode_rewards": "the result holds means, intervals and quantiles of the returns",
    "render": "video names a folder for videos",
    "callback": "leave it out",
}
"""Another library's argument of an evaluation -> what there is in its place."""

METHODS = {
    "predict": "agent.act(observation) is the most probable action, and agent.act(observation, "
    "key) a sample",
    "get_action": "agent.act(observation) is the action",
    "compute_action": "agent.act(observation) is the action",
    "compute_single_action": "agent.act(observation) is the action",
    "save": "policygrad.train(…, out=DIRECTORY) writes the run, which policygrad.load(DIRECTORY) "
    "reads; policygrad.export(agent, PATH) writes an agent alone, for NumPy or ONNX",
    "load": "policygrad.load(PATH) reads the policy of a run",
    "learn": "policygrad.train(env) trains, and policygrad.resume(PATH) goes on",
    "train": "policygrad.train(env) trains, and policygrad.resume(PATH) goes on",
    "evaluate": "policygrad.evaluate(run) plays episodes",
}
"""Another library's method of what was trained -> what there is in its place."""

_TRAINS = 'policygrad.train(env, algorithm="{}") trains with it'
_NOT_HERE = 'it is not in this library, which has policy gradients: algorithm="ppo" is nearest'
FUNCTIONS = {
    "PPO": f"{_TRAINS.format('ppo')}; its settings as a record: policygrad.algorithms.PPO",
    "TRPO": f"{_TRAINS.format('trpo')}; its settings as a record: policygrad.algorithms.TRPO",
    "A2C": "policygrad.train(env) trains by the policy gradient with GAE and a critic",
    "A3C": "policygrad.train(env) trains by the policy gradient with GAE and a critic",
    "VPG": "policygrad.train(env) trains by the policy gradient with GAE and a critic",
    "REINFORCE": 'policygrad.train(env, estimator="reward-to-go", batch_episodes=16) trains with '
    "whole episodes",
    "NPG": _TRAINS.format("natural"),
    **dict.fromkeys(("DQN", "SAC", "TD3", "DDPG"), _NOT_HERE),
    "make": "policygrad.train takes the environment's id; gymnasium.make makes an environment",
    "make_vec_env": "policygrad.train(env, num_envs=16) makes as many environments",
    "evaluate_policy": "here it is called policygrad.evaluate",
    "learn": "here it is called policygrad.train",
    "save": METHODS["save"],
}
"""What another library offers by this name -> what there is in its place."""


def translated(name: str, *, flags: bool = False) -> str | None:
    """What a setting of another library is called here; None for a name that is not known.

    Args:
        name: as it was given, with _ or -.
        flags: spell the answer for the command line.
    """
    name = name.lstrip("-").replace("-", "_").lower()
    if name in SAME:
        ours = SAME[name]
        return f"here it is called {flag(ours) if flags else ours}"
    return UNLIKE[name].replace("{name}", name) if name in UNLIKE else None


def in_a_file(name: str, known: Iterable[str]) -> str:
    """'; …' with what there is in place of a key of a file; '' where nothing is near."""
    hint = "here it is called env" if UNLIKE.get(name) == FIRST else translated(name)
    return did_you_mean(name, known) if hint is None else f"; {hint}"


def unknown_setting(name: str, known: Iterable[str], *, flags: bool = False) -> str:
    """The message for a setting that does not exist, with the nearest or the translated one."""
    told, hint = f"unknown setting {name!r}", translated(name, flags=flags)
    if hint is not None:
        return f"{told}; {hint}"
    near = did_you_mean(name, known).replace("; ", ", ")
    if near:
        if flags:
            near = near.replace("_", "-").replace("did you mean ", "did you mean --")
        return told + near
    for other in difflib.get_close_matches(name.replace("-", "_"), SAME, n=1):
        return f"{told}, did you mean {other}? {translated(other, flags=flags)}"
    return told


def no_attribute(owner: str, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that does not exist, with what there is in its place.

    Args:
        owner: who lacks it.
        name: of the attribute.
        hints: name of another library -> what there is in its place.
    """
    hint = f"; {hints[name]}" if name in hints else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")
