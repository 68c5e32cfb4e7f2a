"""The settings that rl-baselines3-zoo trains MuJoCo's tasks with.

Typed from `hyperparams/ppo.yml` and `hyperparams/trpo.yml` of github.com/DLR-RM/rl-baselines3-zoo
at commit 22e3ff2 (2026-04-23). Its entries are those of older versions of the tasks: -v4, and -v2
for InvertedDoublePendulum and Reacher. All of them normalise observations and rewards (VecNormalize
with the algorithm's gamma). What is not named here is the library's default. The zoo's numbers of
steps are left out.
"""

from typing import Any

# a network of 2 × 256 ReLU units for policy and critic each
WIDE: dict[str, Any] = {
    "log_std_init": -2.0,
    "ortho_init": False,
    "activation_fn": "ReLU",
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}

PPO: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {
        "n_steps": 512, "batch_size": 64, "n_epochs": 20, "learning_rate": 2.0633e-5,
        "gamma": 0.98, "gae_lambda": 0.92, "clip_range": 0.1, "ent_coef": 0.000401762,
        "max_grad_norm": 0.8, "vf_coef": 0.58096, "policy_kwargs": WIDE,
    },
    "Hopper-v5": {
        "n_steps": 512, "batch_size": 32, "n_epochs": 5, "learning_rate": 9.80828e-5,
        "gamma": 0.999, "gae_lambda": 0.99, "clip_range": 0.2, "ent_coef": 0.00229519,
        "max_grad_norm": 0.7, "vf_coef": 0.835671, "policy_kwargs": WIDE,
    },
    "Walker2d-v5": {
        "n_steps": 512, "batch_size": 32, "n_epochs": 20, "learning_rate": 5.05041e-5,
        "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.1, "ent_coef": 0.000585045,
        "max_grad_norm": 1.0, "vf_coef": 0.871923,
    },
    "Ant-v5": {},  # the zoo takes the library's defaults, normalised: the run of sb3-ppo-normalised
    "Humanoid-v5": {
        "n_steps": 512, "batch_size": 256, "n_epochs": 5, "learning_rate": 3.56987e-5,
        "gamma": 0.95, "gae_lambda": 0.9, "clip_range": 0.3, "ent_coef": 0.00238306,
        "max_grad_norm": 2.0, "vf_coef": 0.431892, "policy_kwargs": WIDE,
    },
    "Swimmer-v5": {
        "n_envs": 4, "n_steps": 1024, "batch_size": 256, "learning_rate": 6e-4,
        "gamma": 0.9999, "gae_lambda": 0.98,
    },
    "InvertedDoublePendulum-v5": {
        "n_steps": 128, "batch_size": 512, "n_epochs": 10, "learning_rate": 0.000155454,
        "gamma": 0.98, "gae_lambda": 0.8, "clip_range": 0.4, "ent_coef": 1.05057e-6,
        "max_grad_norm": 0.5, "vf_coef": 0.695929,
    },
    "Reacher-v5": {
        "n_steps": 512, "batch_size": 32, "n_epochs": 5, "learning_rate": 0.000104019,
        "gamma": 0.9, "gae_lambda": 1.0, "clip_range": 0.3, "ent_coef": 7.52585e-8,
        "max_grad_norm": 0.9, "vf_coef": 0.950368,
    },
}  # fmt: skip

# the block that the zoo's MuJoCo entries share
SHARED: dict[str, Any] = {
    "n_envs": 2, "n_steps": 1024, "batch_size": 128, "n_critic_updates": 20, "learning_rate": 1e-3,
    "gamma": 0.99, "gae_lambda": 0.95, "cg_max_steps": 25, "cg_damping": 0.1,
    "sub_sampling_factor": 1,
}  # fmt: skip

TRPO: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": SHARED | {"target_kl": 0.04},
    "Hopper-v5": SHARED,
    "Walker2d-v5": SHARED,
    "Ant-v5": SHARED,
    "Humanoid-v5": SHARED,
    "Swimmer-v5": SHARED | {"gamma": 0.9999},
    # the zoo has no entry of TRPO for these two tasks of MuJoCo
    "InvertedDoublePendulum-v5": SHARED,
    "Reacher-v5": SHARED,
}

SETTINGS = {"sb3-ppo-zoo": PPO, "sb3-trpo-zoo": TRPO}
