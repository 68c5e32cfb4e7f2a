"""What other libraries call a setting of this one: a hint in place of a riddle."""

from collections.abc import Iterable

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
    "num_workers": "num_envs",
    "num_environments": "num_envs",
    "batch_size": "batch_steps",
    "steps_per_epoch": "batch_steps",
    "rollout_length": "batch_steps",
    "timesteps_per_batch": "batch_steps",
    "n_epochs": "ppo_epochs",
    "update_epochs": "ppo_epochs",
    "num_epochs": "ppo_epochs",
    "train_pi_iters": "ppo_epochs",
    "train_v_iters": "critic_epochs",
    "n_critic_updates": "critic_epochs",
    "num_minibatches": "ppo_minibatches",
    "max_grad_norm": "max_global_norm",
    "grad_clip": "max_global_norm",
    "total_timesteps": "total_steps",
    "timesteps": "total_steps",
    "n_timesteps": "total_steps",
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
    "log_std_init": "log_std",
    "normalize_advantage": "normalise_advantages",
    "norm_adv": "normalise_advantages",
    "normalize_advantages": "normalise_advantages",
    "normalize_observations": "normalise_observations",
    "norm_obs": "normalise_observations",
    "norm_reward": "scale_rewards",
    "optimizer": "optimiser",
    "tensorboard_log": "tensorboard",
    "track": "wandb",
    "max_ep_len": "max_episode_steps",
    "save_freq": "checkpoint_seconds",
    "random_seed": "seed",
    "algo": "algorithm",
    "anneal_lr": "step_size_schedule",
    "lr_schedule": "step_size_schedule",
}
"""Their name -> ours, which means the same or comes nearest."""

UNLIKE = {
    "n_steps": "batch_steps counts the steps of all environments together: n_steps times num_envs",
    "num_steps": "batch_steps counts the steps of all environments together: num_steps times "
    "num_envs",
    "vf_coef": "the critic is fitted apart from the policy: there is critic_step_size",
    "value_coef": "the critic is fitted apart from the policy: there is critic_step_size",
    "clip_range_vf": "the critic is fitted apart from the policy, and not clipped: leave it out",
    "clip_vloss": "the critic is fitted apart from the policy, and not clipped: leave it out",
    "use_sde": "there is no state-dependent exploration: leave it out",
    "policy_kwargs": "give the policy's settings by themselves: hidden, log_std, tanh_gaussian, …; "
    "or in Python a network=",
    "verbose": "leave it out; in Python on_update= receives the metrics of every update",
    "device": "JAX chooses the device: set JAX_PLATFORMS=cpu or JAX_PLATFORMS=cuda",
    "cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu or JAX_PLATFORMS=cuda",
    "env_id": "the environment is the first argument: train CartPole-v1",
    "env_name": "the environment is the first argument: train CartPole-v1",
    "gym_id": "the environment is the first argument: train CartPole-v1",
    "epochs": "total_steps says how long a run is; ppo_epochs and critic_epochs are passes over a "
    "batch",
    "rms_prop_eps": "optimiser rmsprop has no such setting; in Python pass optimiser=optax.…",
    "use_rms_prop": "choose optimiser rmsprop",
    "callback": "in Python on_update= receives every update",
}
"""Their name -> what there is in its place."""


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
    return UNLIKE.get(name)


def unknown_setting(name: str, known: Iterable[str], *, flags: bool = False) -> str:
    """The message for a setting that does not exist, with the nearest or the translated one."""
    hint = translated(name, flags=flags)
    near = did_you_mean(name, known).replace("; ", ", ")
    if flags:
        near = near.replace("_", "-").replace("did you mean ", "did you mean --")
    return f"unknown setting {name!r}" + (f"; {hint}" if hint else near)
