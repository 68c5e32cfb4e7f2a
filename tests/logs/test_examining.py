"""From the columns of each library to an examination: names, units, settings, what is missing."""

import re

import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.diagnostics.rules import diagnose, looked_at, not_looked_at
from policygrad.logs import examine_table, parse_setting, read
from policygrad.logs.table import table_of_rows
from policygrad.report.curve import LEFT, RIGHT, drawn, learning_curve_of
from tests.logs.written import ROWS, cleanrl, events, lines, progress, sb3_rows


def of_rows(rows, **given):
    return examine_table(table_of_rows(rows, "rows"), **given)


def test_sb3_with_the_first_row_before_the_first_update(tmp_path):
    found = examine_table(read(progress(tmp_path, sb3_rows())))
    assert found.language.name == "Stable-Baselines3 (PPO)"
    assert (found.updates, found.env_steps) == (ROWS, 2048 * ROWS)
    assert found.settings["batch_steps"] == 2048
    assert found.metric("return_mean")[0] == 20
    assert np.isnan(found.metric("kl")[0])
    assert found.metric("entropy")[-1] == 0.5  # which it logs with the other sign
    assert found.sample is None
    assert "discount" not in found.settings


def test_cleanrl_episodes_are_averaged_over_updates_and_settings_read(tmp_path):
    found = examine_table(read(cleanrl(tmp_path)))
    assert found.language.name == "CleanRL"
    assert (found.updates, found.env_steps, found.env) == (10, 5120, "CartPole-v1")
    assert found.settings["discount"] == 0.99
    assert found.settings["batch_steps"] == 4 * 128
    # episodes ended at steps 128, 256, 384 and 512
    assert found.metric("return_mean")[0] == pytest.approx(20 + (128 + 512) / 2 / 100, rel=1e-6)
    assert found.metric("value_error")[-1] == pytest.approx(2 * (30 - 5120 / 300), rel=1e-6)
    assert len(found.logged.returns) == 40


def test_iterations_that_begin_anew_with_each_learn_do_not_make_the_batch_larger():
    """Thirty calls of learn(reset_num_timesteps=False), of five iterations of 36 steps each."""
    rows = sb3_rows()[1:2] * 150
    rows = [
        {**row, "time/iterations": i % 5 + 1.0, "time/total_timesteps": 36.0 * (i + 1)}
        | {"rollout/ep_len_mean": 36.0}
        for i, row in enumerate(rows)
    ]
    found = of_rows(rows)
    assert found.settings["batch_steps"] == 36
    assert "batch-of-one-episode" in [finding.name for finding in diagnose(found)]
    for row in rows:  # one iteration a call
        row["time/iterations"] = 1.0
    assert of_rows(rows).settings["batch_steps"] == 36
    rows = [row | {"time/iterations": 10.0 * (i + 1)} for i, row in enumerate(rows)]
    assert of_rows(rows).settings["batch_steps"] == pytest.approx(3.6)


def test_steps_that_begin_anew_with_each_learn_are_counted_on():
    rows = [
        {**row, "time/total_timesteps": 2048.0 * (i % 5 + 1), "time/iterations": i % 5 + 1.0}
        for i, row in enumerate(sb3_rows())
    ]
    found = of_rows(rows)
    assert found.env_steps == 2048 * ROWS
    np.testing.assert_array_equal(found.metric("env_steps"), 2048 * np.arange(1, ROWS + 1))
    assert found.settings["batch_steps"] == 2048
    assert found.notes == ("the environment steps begin anew 2 times; they were counted on",)
    drawing = drawn(learning_curve_of(found))
    (points,) = re.findall(r'points="([^"]*)"', drawing)
    assert all(LEFT <= float(point.split(",")[0]) <= RIGHT for point in points.split())


OLD = "info/learner/default_policy/learner_stats/"
NEW = "learners/default_policy/"
OTHERS = {
    "RLlib": {
        "env_runners/episode_return_mean": "return_mean",
        "env_runners/episode_len_mean": "length_mean",
        f"{NEW}mean_kl_loss": "kl", f"{NEW}entropy": "entropy", f"{NEW}vf_loss": "value_error",
        f"{NEW}vf_explained_var": "explained_variance_before",
        f"{NEW}default_optimizer_learning_rate": "step_size",
        "num_env_steps_sampled_lifetime": "env_steps",
    },
    "RLlib (old)": {
        "episode_reward_mean": "return_mean", "episode_len_mean": "length_mean", f"{OLD}kl": "kl",
        f"{OLD}entropy": "entropy", f"{OLD}vf_loss": "value_error", f"{OLD}cur_lr": "step_size",
        "timesteps_total": "env_steps",
    },
    "rsl_rl": {
        "Train/mean_reward": "return_mean", "Train/mean_episode_length": "length_mean",
        "Loss/value_function": "value_error", "Policy/mean_noise_std": "action_std",
        "Loss/learning_rate": "step_size", "Loss/surrogate": "loss",
    },
    "TRL (GRPO)": {
        "reward": "return_mean", "reward_std": None, "completions/mean_length": "length_mean",
        "entropy": "entropy", "grad_norm": "gradient_norm", "learning_rate": "step_size",
        "frac_reward_zero_std": "groups_without_spread", "kl": "reference_kl", "loss": "loss",
    },
    "verl": {
        "critic/score/mean": "return_mean", "response_length/mean": "length_mean",
        "actor/entropy": "entropy", "actor/grad_norm": "gradient_norm",
        "actor/pg_clipfrac": "clip_fraction", "actor/ppo_kl": "kl",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_libraries_are_recognised_by_their_names(name):
    """A KL that is not of the update (TRL's is to the reference) is not taken for one."""
    names = OTHERS[name]
    found = of_rows([{theirs: float(i + 1) for theirs in names} for i in range(5)])
    assert found.language.name == name.removesuffix(" (old)")
    inferred = {"episodes"} if {"env_steps", "length_mean"} <= set(names.values()) else set()
    assert set(found.metrics) == {ours for ours in names.values() if ours} | inferred


def test_a2c_is_told_from_ppo_and_dqn_is_refused():
    rows = [{"train/entropy_loss": -0.6, "train/policy_loss": 0.1, "rollout/ep_rew_mean": 1.0}] * 3
    assert of_rows(rows).language.name == "Stable-Baselines3 (A2C)"
    with pytest.raises(UserError, match="DQN"):
        of_rows([{"rollout/ep_rew_mean": 1.0, "rollout/exploration_rate": 0.5}] * 3)


def test_settings_are_taken_from_files_else_from_flags(tmp_path):
    (tmp_path / "params.json").write_text('{"gamma": 0.9, "lambda": 0.8, "lr": 0.1}')
    lines(tmp_path / "result.json", [{"episode_reward_mean": 1.0, "training_iteration": 1}] * 2)
    found = examine_table(read(tmp_path), settings={"gamma": 0.95, "entropy_coeff": 0.01})
    given = {k: found.settings[k] for k in ("discount", "gae_lambda", "entropy_coefficient")}
    assert given == {"discount": 0.95, "gae_lambda": 0.8, "entropy_coefficient": 0.01}
    with pytest.raises(UserError, match="no setting gama that is read; those are lr, gamma"):
        examine_table(read(tmp_path), settings={"gama": 0.95})
    assert parse_setting("gamma=3e-1") == ("gamma", 0.3)
    for text in ("gamma", "gamma=", "=3", "gamma=high"):
        with pytest.raises(UserError, match="NAME=NUMBER"):
            parse_setting(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gamma", 2, "gamma must be from 0 to 1"),
        ("gamma", np.nan, "gamma must be from 0 to 1"),
        ("gamma", 10**400, "gamma must be from 0 to 1"),
        ("gae_lambda", -0.1, "gae_lambda must be from 0 to 1"),
        ("learning_rate", -1, "learning_rate must be at least 0"),
        ("ent_coef", np.inf, "ent_coef must be at least 0"),
        ("n_steps", 0, "n_steps must be a whole number at least 1"),
        ("n_envs", 1.5, "n_envs must be a whole number at least 1"),
        ("vf_coef", "high", "vf_coef must be at least 0"),
    ],
)
def test_a_setting_that_no_run_can_have_is_refused(name, value, said):
    with pytest.raises(UserError, match=said) as caught:
        of_rows(sb3_rows(), settings={name: value})
    assert f"--setting {name}={value}" in str(caught.value)


def test_a_setting_beyond_all_floats_that_a_log_wrote_is_left_out(tmp_path):
    (tmp_path / "params.json").write_text(f'{{"gamma": 0.9, "lr": {"9" * 400}}}')
    lines(tmp_path / "result.json", [{"episode_reward_mean": 1.0, "training_iteration": 1}] * 2)
    found = examine_table(read(tmp_path)).settings
    assert found["discount"] == 0.9
    assert "step_size" not in found


def test_optimiser_steps_are_not_said_to_be_environment_steps(tmp_path):
    at = [(step, 0.1 * step) for step in range(10, 510, 10)]
    trl = events(tmp_path / "trl", {"train/reward": at, "train/reward_std": at, "train/loss": at})
    found = examine_table(read(trl))
    assert (found.language.name, found.updates, found.env_steps) == ("TRL (GRPO)", 50, 0)
    sb3 = events(tmp_path / "sb3", {"rollout/ep_rew_mean": at, "train/approx_kl": at})
    assert examine_table(read(sb3)).env_steps == 500


def test_one_monitor_does_not_say_how_many_environments_there_are(tmp_path):
    """VecMonitor writes the episodes of all of them into one file."""
    progress(tmp_path, sb3_rows(total_timesteps=4 * 256 * np.arange(1, ROWS + 1)))
    (tmp_path / "monitor.csv").write_text("#{}\nr,l,t\n20.0,20,0.1\n")
    found = examine_table(read(tmp_path), settings={"n_steps": 256})
    assert "num_envs" not in found.settings
    assert found.settings["batch_steps"] == 4 * 256
    (tmp_path / "1.monitor.csv").write_text("#{}\nr,l,t\n20.0,20,0.1\n")
    assert examine_table(read(tmp_path)).settings["num_envs"] == 2


@pytest.mark.parametrize("name", ["losses/qf1_loss", "losses/alpha", "losses/td_loss"])
def test_algorithms_of_cleanrl_without_a_policy_gradient_are_refused(name):
    row = {"charts/episodic_return": 1.0, "charts/SPS": 100.0, name: 0.5}
    with pytest.raises(UserError, match=f"the log has {name}, which DQN, SAC"):
        of_rows([row] * 3)


def test_columns_of_ones_own():
    rows = [{"score": float(i), "divergence": 0.01} for i in range(5)]
    found = of_rows(rows, columns={"return": "score", "kl": "divergence"})
    np.testing.assert_array_equal(found.metric("return_mean"), range(5))
    with pytest.raises(UserError, match="no library is recognised by its columns"):
        of_rows(rows)
    with pytest.raises(UserError, match="no column 'nothing'; it has divergence, score"):
        of_rows(rows, columns={"return": "nothing"})
    with pytest.raises(UserError, match="reward is not read"):
        of_rows(rows, columns={"reward": "score"})


def test_columns_add_to_those_that_are_recognised_or_stand_for_them():
    rows = [{**row, "own/return": 7.0} for row in sb3_rows()]
    found = of_rows(rows, columns={"return": "own/return"}, settings={"gamma": 0.9})
    assert found.language.name == "Stable-Baselines3 (PPO)"
    assert (found.metric("return_mean") == 7).all()
    assert found.metric("entropy")[-1] == 0.5
    assert found.settings["discount"] == 0.9


def test_rows_are_counted_as_they_were_logged_and_the_names_that_are_read_are_said_alike():
    rows = [{"score": float(i)} for i in range(40)]
    found = of_rows(rows, columns={"return": "score"})
    assert (found.updates, len(found.metric("return_mean")), found.notes) == (40, 40, ())
    found = of_rows(rows * 10, columns={"return": "score"})
    assert (found.updates, len(found.metric("return_mean"))) == (400, 20)
    assert found.notes == ("the 400 rows were averaged over 20 parts of equal length",)
    said = []
    for given in (None, {"reward": "score"}):
        with pytest.raises(UserError) as error:
            of_rows(rows, columns=given)
        said.append(str(error.value))
    names = "return, length, steps, explained_variance, value_loss, std, learning_rate, kl"
    assert all(names in text for text in said)


def test_one_policy_of_several_is_read_and_it_is_said_which():
    row = {f"learners/{p}/mean_kl_loss": kl for p, kl in (("p1", 0.7), ("p0", 0.01))}
    row |= {"learners/__all_modules__/x": 0.0, "env_runners/episode_return_mean": 1.0}
    found = of_rows([row] * 3)
    assert found.metric("kl")[0] == 0.01
    assert found.notes == ("the policy p0 was read; the log has p0, p1",)
    row["learners/default_policy/mean_kl_loss"] = 0.02
    assert of_rows([row] * 3).metric("kl")[0] == 0.02


def test_a_step_that_mixed_precision_skips_is_no_failure_but_nan_to_the_end_is():
    norms = [1.0, np.inf, 1.0, 1.0]
    rows = [{"reward": 0.1 * i, "reward_std": 0.1, "grad_norm": x} for i, x in enumerate(norms)]
    assert of_rows(rows).logged.not_finite == {}
    rows[3]["grad_norm"] = np.nan
    assert of_rows(rows).logged.not_finite == {"gradient_norm": 2}


def test_what_is_missing_is_listed_with_what_it_needs():
    found = of_rows([{"rollout/ep_rew_mean": float(i)} for i in range(5)])
    missing = {x.name: x.needs for x in not_looked_at(found)}
    assert "train/approx_kl" in missing["step-size-too-large"]
    assert "learning_rate" in missing["step-size-too-large"]
    assert missing["mask-permits-nothing"] == "fresh episodes with the policy"
    assert "return-collapsed" in looked_at(found)
    assert not set(missing) & set(looked_at(found))


def test_nan_before_the_first_episode_is_no_failure_where_the_library_writes_it_so():
    rows = [{"episode_reward_mean": x, "timesteps_total": 1.0} for x in (np.nan, 1.0, 2.0)]
    assert of_rows(rows).logged.not_finite == {}
    assert of_rows([*rows, rows[0]]).logged.not_finite == {"return_mean": 1}
    assert of_rows(sb3_rows(ep_rew_mean=np.nan)).logged.not_finite == {"return_mean": ROWS}


def test_a_run_that_died_of_a_nan_left_it_in_its_only_row_or_in_an_episode(tmp_path):
    died = of_rows([{"rollout/ep_rew_mean": np.nan, "time/total_timesteps": 2048.0}])
    assert [finding.name for finding in diagnose(died)] == ["rewards-not-finite"]
    rows = sb3_rows()[:3]
    progress(tmp_path, rows)
    (tmp_path / "monitor.csv").write_text("#{}\nr,l,t\n20.0,20,0.1\nnan,22,0.2\n")
    found = examine_table(read(tmp_path))
    assert np.isfinite(found.metric("return_mean")).all()
    assert [finding.name for finding in diagnose(found)] == ["rewards-not-finite"]
