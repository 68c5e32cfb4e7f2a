"""The libraries whose logs are known, each in its own words (`diagnostics.language`)."""

from dataclasses import replace

from policygrad.diagnostics.language import Language

_SB3_METRICS = {
    "return_mean": ("rollout/ep_rew_mean", "monitor/r"),
    "length_mean": ("rollout/ep_len_mean", "monitor/l"),
    "env_steps": ("time/total_timesteps",),
    "iterations": ("time/iterations",),
    "entropy": ("train/entropy_loss",),
    "explained_variance_before": ("train/explained_variance",),
    "value_error": ("train/value_loss",),
    "action_std": ("train/std",),
    "step_size": ("train/learning_rate",),
    "loss": ("train/loss", "train/policy_loss", "train/policy_gradient_loss"),
}
_SB3_SETTINGS = {
    "step_size": ("learning_rate",),
    "discount": ("gamma",),
    "gae_lambda": ("gae_lambda",),
    "entropy_coefficient": ("ent_coef",),
    "critic_coefficient": ("vf_coef",),
    "rollout_steps": ("n_steps",),
    "num_envs": ("n_envs",),
    "max_global_norm": ("max_grad_norm",),
}
SB3_A2C = Language(
    "Stable-Baselines3 (A2C)",
    {**_SB3_METRICS, "gradient_steps": ("train/n_updates",)},  # with PPO it counts epochs
    _SB3_SETTINGS,
    {"train/entropy_loss": -1.0},
    windows={"rollout/ep_rew_mean": 100},  # stats_window_size
    phrases={
        "scale_rewards": "wrap the environment in VecNormalize(env, norm_obs=False)",
        "log_std": "give policy_kwargs=dict(log_std_init=0.0)",
    },
    usual_step_size=7e-4,
    single_episodes=True,
    axis_counts_steps=True,
)
SB3_PPO = replace(
    SB3_A2C,
    name="Stable-Baselines3 (PPO)",
    metrics={
        **_SB3_METRICS,
        "kl": ("train/approx_kl", "train/kl_divergence_loss"),
        "clip_fraction": ("train/clip_fraction",),
    },
    settings={
        **_SB3_SETTINGS,
        "clip_ratio": ("clip_range",),
        "epochs": ("n_epochs",),
        "minibatch_steps": ("batch_size",),
        "target_kl": ("target_kl",),
    },
    usual_step_size=3e-4,
    single_episodes=False,
)
CLEANRL = Language(
    "CleanRL",
    {
        "return_mean": ("charts/episodic_return",),
        "length_mean": ("charts/episodic_length",),
        "kl": ("losses/approx_kl",),
        "clip_fraction": ("losses/clipfrac",),
        "entropy": ("losses/entropy",),
        "explained_variance_before": ("losses/explained_variance",),
        "value_error": ("losses/value_loss",),
        "step_size": ("charts/learning_rate",),
        "loss": ("losses/policy_loss",),
    },
    {
        "step_size": ("learning_rate",),
        "discount": ("gamma",),
        "gae_lambda": ("gae_lambda",),
        "entropy_coefficient": ("ent_coef",),
        "critic_coefficient": ("vf_coef",),
        "rollout_steps": ("num_steps",),
        "num_envs": ("num_envs",),
        "clip_ratio": ("clip_coef",),
        "epochs": ("update_epochs",),
        "minibatches": ("num_minibatches",),
        "max_global_norm": ("max_grad_norm",),
        "target_kl": ("target_kl",),
        "env": ("env_id",),
    },
    {"losses/value_loss": 2.0},  # it logs half of the mean square
    form="--{name} {value}",
    phrases={
        "scale_rewards": "wrap the environment in gymnasium.wrappers.NormalizeReward",
        "log_std": "begin with actor_logstd at 0",
    },
    usual_step_size=2.5e-4,
    axis_counts_steps=True,
)
_LEARNER = "learners/default_policy/"
_OLD_LEARNER = "info/learner/default_policy/learner_stats/"
RLLIB = Language(
    "RLlib",
    {
        "return_mean": (
            "env_runners/episode_return_mean", "env_runners/episode_reward_mean",
            "episode_reward_mean", "sampler_results/episode_reward_mean",
        ),
        "length_mean": (
            "env_runners/episode_len_mean", "episode_len_mean", "sampler_results/episode_len_mean",
        ),
        "env_steps": (
            "num_env_steps_sampled_lifetime", "num_env_steps_sampled", "timesteps_total",
        ),
        "iterations": ("training_iteration",),
        "kl": (f"{_LEARNER}mean_kl_loss", f"{_OLD_LEARNER}kl"),
        "entropy": (f"{_LEARNER}entropy", f"{_OLD_LEARNER}entropy"),
        "explained_variance_before": (
            f"{_LEARNER}vf_explained_var", f"{_OLD_LEARNER}vf_explained_var",
        ),
        "value_error": (
            f"{_LEARNER}vf_loss_unclipped", f"{_LEARNER}vf_loss", f"{_OLD_LEARNER}vf_loss",
        ),
        "step_size": (f"{_LEARNER}default_optimizer_learning_rate", f"{_OLD_LEARNER}cur_lr"),
        "loss": (f"{_LEARNER}total_loss", f"{_OLD_LEARNER}total_loss"),
        "gradient_norm": (
            f"{_LEARNER}gradients_default_optimizer_global_norm", f"{_OLD_LEARNER}grad_gnorm",
        ),
    },
    {
        "step_size": ("lr",),
        "discount": ("gamma",),
        "gae_lambda": ("lambda_", "lambda"),
        "entropy_coefficient": ("entropy_coeff",),
        "critic_coefficient": ("vf_loss_coeff",),
        "batch_steps": ("train_batch_size_per_learner", "train_batch_size"),
        "clip_ratio": ("clip_param",),
        "epochs": ("num_epochs", "num_sgd_iter"),
        "minibatch_steps": ("minibatch_size", "sgd_minibatch_size"),
        "max_global_norm": ("grad_clip",),
        "env": ("env",),
    },
    # metrics_num_episodes_for_smoothing
    windows={
        "env_runners/episode_return_mean": 100, "env_runners/episode_reward_mean": 100,
        "episode_reward_mean": 100, "sampler_results/episode_reward_mean": 100,
    },
    usual_step_size=5e-5,
    nan_without_episodes=True,
    phrases={"scale_rewards": "divide the rewards in a wrapper or in a connector"},
)  # fmt: skip
RSL_RL = Language(
    "rsl_rl",
    {
        "return_mean": ("Train/mean_reward",),
        "length_mean": ("Train/mean_episode_length",),
        "kl": ("Loss/kl",),
        "entropy": ("Loss/entropy",),
        "value_error": ("Loss/value_function", "Loss/value"),
        "action_std": ("Policy/mean_noise_std", "Policy/mean_std"),
        "step_size": ("Loss/learning_rate",),
        "loss": ("Loss/surrogate",),
    },
    {
        "step_size": ("learning_rate",),
        "discount": ("gamma",),
        "gae_lambda": ("lam",),
        "entropy_coefficient": ("entropy_coef",),
        "critic_coefficient": ("value_loss_coef",),
        "rollout_steps": ("num_steps_per_env",),
        "num_envs": ("num_envs",),
        "clip_ratio": ("clip_param",),
        "epochs": ("num_learning_epochs",),
        "minibatches": ("num_mini_batches",),
        "max_global_norm": ("max_grad_norm",),
        "target_kl": ("desired_kl",),
    },
    windows={"Train/mean_reward": 100},
    phrases={"log_std": "give init_noise_std=1.0"},
    single_episodes=True,
)
TRL = Language(
    "TRL (GRPO)",
    {
        "return_mean": ("reward", "train/reward"),
        "length_mean": (
            "completions/mean_length", "train/completions/mean_length", "completion_length",
            "train/completion_length",
        ),
        "clip_fraction": ("clip_ratio/region_mean", "train/clip_ratio/region_mean", "clip_ratio"),
        "entropy": ("entropy", "train/entropy"),
        "gradient_norm": ("grad_norm", "train/grad_norm"),
        "step_size": ("learning_rate", "train/learning_rate"),
        "loss": ("loss", "train/loss"),
        "reference_kl": ("kl", "train/kl"),
        "groups_without_spread": ("frac_reward_zero_std", "train/frac_reward_zero_std"),
    },
    {
        "step_size": ("learning_rate",),
        "kl_penalty": ("beta",),
        "clip_ratio": ("epsilon",),
        "epochs": ("num_iterations",),
        "group_size": ("num_generations",),
        "max_global_norm": ("max_grad_norm",),
    },
    phrases={"explore": "a higher temperature (it has no entropy bonus)"},
    usual_step_size=1e-6,
    lacks=("entropy_coefficient",),
    single_episodes=True,
)  # fmt: skip
VERL = Language(
    "verl",
    {
        "return_mean": ("critic/score/mean", "critic/rewards/mean"),
        "length_mean": ("response_length/mean",),
        "kl": ("actor/ppo_kl",),
        "clip_fraction": ("actor/pg_clipfrac",),
        "entropy": ("actor/entropy", "actor/entropy_loss"),
        "explained_variance_before": ("critic/vf_explained_var",),
        "value_error": ("critic/vf_loss",),
        "gradient_norm": ("actor/grad_norm",),
        "step_size": ("actor/lr",),
        "loss": ("actor/pg_loss",),
        "reference_kl": ("actor/kl_loss",),
    },
    {
        "step_size": ("actor_rollout_ref.actor.optim.lr",),
        "discount": ("algorithm.gamma",),
        "gae_lambda": ("algorithm.lam",),
        "entropy_coefficient": ("actor_rollout_ref.actor.entropy_coeff",),
        "clip_ratio": ("actor_rollout_ref.actor.clip_ratio",),
        "epochs": ("actor_rollout_ref.actor.ppo_epochs",),
        "minibatch_steps": ("actor_rollout_ref.actor.ppo_mini_batch_size",),
        "group_size": ("actor_rollout_ref.rollout.n",),
        "max_global_norm": ("actor_rollout_ref.actor.grad_clip",),
    },
    {"critic/vf_loss": 2.0},  # it logs half of the mean square
    usual_step_size=1e-6,
    kl_before_step=True,
    single_episodes=True,
)
