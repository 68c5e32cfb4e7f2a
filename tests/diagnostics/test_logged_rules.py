"""The rules for logs of other libraries: each on a log that is broken in one place."""

import numpy as np
import pytest

from policygrad.diagnostics import RULES
from policygrad.diagnostics.clean_bill import lines_of
from policygrad.diagnostics.rules import ONLY_OURS, diagnose, logged, not_looked_at
from policygrad.logs import examine_table, read
from policygrad.logs.table import table_of_rows
from tests.logs.written import ROWS, cleanrl, sb3_rows

FLAT = np.full(ROWS, 20.0)
RISING = np.linspace(20, 200, ROWS)


def found_in(settings=None, **changes):
    table = table_of_rows(sb3_rows(**changes), "rows")
    return diagnose(examine_table(table, settings=settings))


def names(findings):
    return [finding.name for finding in findings]


def test_a_healthy_log_has_no_findings_and_neither_has_one_at_its_plateau():
    assert found_in() == ()
    plateau = np.minimum(np.linspace(20, 1500, ROWS), 500)
    assert found_in(ep_rew_mean=plateau, ep_len_mean=plateau) == ()


NOT_TRAINED = {"value_loss": np.full(ROWS, 60.0), "explained_variance": np.full(ROWS, 0.001)}
BROKEN = {
    "rewards-not-finite": {"ep_rew_mean": np.where(np.arange(ROWS) < 3, 20, np.nan)},
    "rewards-zero": {"ep_rew_mean": 0.0},
    "rewards-constant": {"ep_rew_mean": -200.0, "ep_len_mean": 200.0},
    "rewards-unscaled": {"ep_rew_mean": 1e6 * RISING, "value_loss": np.full(ROWS, 1e13)},
    "observations-constant": {"explained_variance": np.full(ROWS, 1e-7)},
    "training-stopped": {"value_loss": np.where(np.arange(ROWS) < 8, 30, np.nan)},
    "step-size-too-large": {"learning_rate": 0.03, "approx_kl": 0.5},
    "step-size-too-small": {"learning_rate": 3e-7, "approx_kl": 1e-8},
    "entropy-bonus-too-large": {"entropy_loss": -0.6931, "ep_rew_mean": FLAT, "ep_len_mean": FLAT},
    "critic-not-trained": {**NOT_TRAINED, "value_loss": np.full(ROWS, 130.0)},
    "discount-too-low": {"value_loss": np.linspace(4, 0.5, ROWS)},
    "lambda-too-low": {**NOT_TRAINED, "value_loss": np.full(ROWS, 1.0)},
    "return-collapsed": {"ep_rew_mean": np.concatenate([RISING[:6], RISING[:6][::-1]])},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_first(name):
    assert names(found_in(**BROKEN[name]))[:1] == [name]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("discount-too-low", {"gamma": 0.5}),
        ("lambda-too-low", {"gae_lambda": 0.0, "vf_coef": 0.0}),
        ("critic-not-trained", {"vf_coef": 0.0}),
        ("entropy-bonus-too-large", {"ent_coef": 10.0}),
        ("batch-of-one-episode", {"n_steps": 36, "n_envs": 1}),
    ],
)
def test_a_setting_that_is_known_is_enough(tmp_path, name, settings):
    lengths = {"ep_len_mean": RISING}
    assert names(found_in(settings, **lengths))[:1] == [name]
    words = {"n_steps": "num_steps", "n_envs": "num_envs"}
    own = {words.get(k, k): v for k, v in settings.items()}
    found = examine_table(read(cleanrl(tmp_path, **own)))
    assert names(diagnose(found))[:1] == [name]


def test_a_step_that_is_too_small_is_named_before_the_returns_that_it_leaves_constant():
    same = {"ep_rew_mean": -200.0, "ep_len_mean": 200.0}
    small = found_in(**same, approx_kl=1e-9, learning_rate=3e-7)
    assert names(small) == ["step-size-too-small", "rewards-constant"]
    assert names(found_in(**same, approx_kl=1e-9)) == ["rewards-constant"]


@pytest.mark.parametrize(("length", "episodes"), [(500, 49), (244, 100)])
def test_episodes_of_equal_return_are_a_fault_only_if_they_are_many(length, episodes):
    """In 49 of 500 steps the goal of a healthy run may not have been reached yet."""
    table = table_of_rows(sb3_rows(ep_rew_mean=-length, ep_len_mean=length), "rows")
    found = examine_table(table)
    assert int(found.env_steps / length) == episodes
    missing = {x.name: x.needs for x in not_looked_at(found)}
    if episodes < 100:
        assert diagnose(found) == ()
        assert "100 episodes" in missing["rewards-constant"]
    else:
        assert names(diagnose(found)) == ["rewards-constant"]
        assert "rewards-constant" not in missing


def test_a_rate_that_falls_to_zero_is_no_step_that_is_too_small():
    assert found_in(approx_kl=np.where(np.arange(ROWS) < 6, 1e-3, 1e-9)) == ()


def test_a_critic_of_td_is_untrained_though_it_explains_its_targets():
    """With λ = 0 the target is the value of the next state, which is near that of this one."""
    explained = np.full(ROWS, 0.9)
    changes = {"value_loss": np.full(ROWS, 1.0), "explained_variance": explained}
    assert names(found_in(**changes)) == ["lambda-too-low"]


def a2c(rows, **changes):
    """The first rows of a log of A2C, which has no KL and no clipped ratios."""
    of_ppo = ("train/approx_kl", "train/clip_fraction")
    found = [
        {k: v for k, v in row.items() if k not in of_ppo} for row in sb3_rows(**changes)[1:][:rows]
    ]
    for n, row in enumerate(found):
        row |= {"train/n_updates": 100.0 * n, "time/iterations": 100.0 * (n + 1)}
    return found


def diagnosed(rows):
    return names(diagnose(examine_table(table_of_rows(rows, "rows"))))


def test_three_rows_are_enough_if_all_show_that_the_targets_are_one_reward():
    assert diagnosed(a2c(3, value_loss=1.0)) == ["lambda-too-low"]
    assert diagnosed(a2c(3, value_loss=11.0)) == []
    falling = np.geomspace(2.0, 0.1, ROWS)  # which three rows are too few to tell from chance
    assert diagnosed(a2c(3, value_loss=falling)) == []
    assert diagnosed(a2c(11, value_loss=falling)) == ["discount-too-low"]


def test_errors_that_leap_are_of_targets_that_look_far_ahead():
    """A critic that has learned is wrong by little, and by much where an episode ends."""
    leaps = np.where(np.arange(ROWS) % 4 == 3, 80.0, 0.5)
    assert diagnosed(a2c(11, value_loss=leaps)) == []


def test_noise_that_widens_slower_than_the_step_size_allows_shows_no_bonus():
    """ln σ moves by the learning rate a step if all steps agree; here by a fifth of it."""
    steps, rate = 100 * np.arange(11), 3e-4
    for share, expected in ((0.9, ["entropy-bonus-too-large"]), (0.2, [])):
        log_std = share * rate * steps * 10
        rows = a2c(11, entropy_loss=-1.0, learning_rate=10 * rate)
        for row, x in zip(rows, log_std, strict=True):
            row |= {"train/std": float(np.exp(x)), "train/entropy_loss": -1.42 - float(x)}
        assert diagnosed(rows) == expected


def test_what_is_explained_of_a_few_steps_is_not_looked_at():
    level = 20 + np.arange(ROWS) % 2
    worse = {"explained_variance": -20.0, "ep_rew_mean": level, "ep_len_mean": level}
    assert diagnosed(sb3_rows(**worse)) == ["critic-explains-nothing"]
    few = [{**row, "time/total_timesteps": 5 * row["time/iterations"]} for row in a2c(11, **worse)]
    found = examine_table(table_of_rows(few, "rows"))
    assert "critic-explains-nothing" in {x.name for x in not_looked_at(found)}
    assert "critic-explains-nothing" not in names(diagnose(found))


def test_constant_observations_show_also_where_every_return_is_the_same():
    same = {"ep_rew_mean": -500.0, "ep_len_mean": 500.0, "explained_variance": 1e-7}
    assert names(found_in(**same)) == ["observations-constant"]


def test_small_errors_of_a_continuous_task_are_taken_for_normalised_rewards():
    """The errors of rewards that are divided by their size are about 1, whatever γ is."""
    rows = [{**row, "train/std": 1.0} for row in sb3_rows(**BROKEN["discount-too-low"])]
    assert diagnose(examine_table(table_of_rows(rows, "rows"))) == ()


def test_a2c_needs_many_rows_before_its_critic_is_called_untrained():
    """A healthy A2C explains next to nothing for thousands of updates."""
    rows = [
        {k: v for k, v in row.items() if k not in ("train/approx_kl", "train/clip_fraction")}
        for row in sb3_rows(value_loss=50.0, explained_variance=np.linspace(0, 0.02, ROWS))
    ]
    short = examine_table(table_of_rows(rows, "rows"))
    assert diagnose(short) == ()
    assert "50 rows" in {x.name: x.needs for x in not_looked_at(short)}["critic-not-trained"]
    long = examine_table(table_of_rows([row for row in rows for _ in range(5)], "rows"))
    assert names(diagnose(long)) == ["critic-not-trained"]


def test_actions_are_judged_where_their_deviation_is_logged():
    rows = [{**row, "train/std": 20.0} for row in sb3_rows()]
    (finding,) = diagnose(examine_table(table_of_rows(rows, "rows")))
    assert finding.name == "actions-saturated"
    assert "log_std_init" in finding.change


COLLAPSED = {"entropy_loss": -1e-4, "ep_rew_mean": 9.4 + 0.1 * (np.arange(ROWS) % 2)}
EARLY = np.where(np.arange(ROWS) < 2, -0.69, -1e-4)


@pytest.mark.parametrize("rate", [3e-4, 0.05])
@pytest.mark.parametrize("entropy", [-1e-4, EARLY])
def test_a_policy_that_was_soon_deterministic_is_told_neither_of_a_bonus_nor_of_small_steps(
    rate, entropy
):
    """Its entropy is constant and its KL is 0; with a huge rate, that is the cause."""
    changes = {**COLLAPSED, "entropy_loss": entropy, "learning_rate": rate}
    few_steps_ahead = {"value_loss": np.linspace(4, 0.5, ROWS)}
    for more in ({}, few_steps_ahead, {"explained_variance": 1e-7}):
        found = found_in(**{**changes, "approx_kl": 1e-9, "clip_fraction": 0.0, **more})
        assert names(found) == ["step-size-too-large" if rate > 0.01 else "entropy-collapsed"]
    found = diagnosed(a2c(11, **changes, explained_variance=1e-7))
    assert found == ["step-size-too-large" if rate > 0.01 else "entropy-collapsed"]


def test_entropy_near_zero_is_no_fault_where_the_return_rose():
    """A mean over 100 episodes leaps only where about as many end in a row, of 500 steps each."""
    plateau = np.minimum(np.linspace(20, 3000, ROWS), 500)
    leap = np.where(np.arange(ROWS) < 1, 20.0, 500.0)  # solved before the second row
    log = {"entropy_loss": EARLY, "total_timesteps": 51_200 * np.arange(1, ROWS + 1)}
    assert found_in(**log, ep_rew_mean=plateau, ep_len_mean=plateau) == ()
    assert found_in(**log, ep_rew_mean=leap, ep_len_mean=leap) == ()


def test_noise_that_is_gone_early_is_named_and_a_density_of_entropy_zero_is_not():
    level = -1400 + 20.0 * (np.arange(ROWS) % 2)
    rows = sb3_rows(entropy_loss=4.5, ep_rew_mean=level, ep_len_mean=200.0, value_loss=2e3)
    assert diagnosed([{**row, "train/std": 0.003} for row in rows]) == ["entropy-collapsed"]
    assert diagnosed(rows) == []


def test_an_entropy_that_is_constant_is_at_its_greatest_only_if_it_is_that_of_n_actions():
    level = 20 + np.arange(ROWS) % 2
    for entropy, expected in (
        (np.log(2), ["entropy-bonus-too-large"]),
        (np.log(18), ["entropy-bonus-too-large"]),
        (0.6, []),
    ):
        assert names(found_in(entropy_loss=-entropy, ep_rew_mean=level)) == expected


def test_noise_that_widens_by_steps_that_are_too_large_shows_no_bonus():
    rows = sb3_rows(approx_kl=0.1, learning_rate=0.05, ep_rew_mean=-1400.0 + np.arange(ROWS) % 2)
    for n, row in enumerate(rows):
        row |= {"train/std": np.exp(0.2 * n), "train/entropy_loss": -1.42 - 0.2 * n}
    assert diagnosed(rows)[0] == "step-size-too-large"
    plain = [{"score": 20.0 + i % 2, "kl": 0.6, "entropy": 0.6} for i in range(40)]
    given = {"return": "score", "kl": "kl", "entropy": "entropy"}
    (finding,) = diagnose(examine_table(table_of_rows(plain, "rows"), given))
    assert finding.name == "step-size-too-large"
    assert finding.change == "Train with a smaller learning rate."


def test_a_usual_rate_or_an_update_of_usual_size_is_no_step_that_is_too_small():
    level = 20 + np.arange(ROWS) % 2
    assert found_in(approx_kl=1e-8, ep_rew_mean=level) == ()
    once = np.where(np.arange(ROWS) == 2, 0.01, 1e-8)
    assert names(found_in(approx_kl=1e-8, learning_rate=1e-6, ep_rew_mean=level)) == [
        "step-size-too-small"
    ]
    assert found_in(approx_kl=once, learning_rate=2e-5, ep_rew_mean=level) == ()


def of_language_models(**changes):
    """Rows of TRL's and of verl's, with the same change in both."""
    for names_of in (
        {"kl": "kl", "rate": "learning_rate", "norm": "grad_norm", "return": "reward",
         "entropy": "entropy", "spread": "reward_std", "loss": "loss"},
        {"kl": "actor/ppo_kl", "rate": "actor/lr", "norm": "actor/grad_norm",
         "return": "critic/score/mean", "entropy": "actor/entropy", "loss": "actor/pg_loss"},
    ):  # fmt: skip
        series = {
            "kl": np.full(40, 5e-4), "rate": np.full(40, 1e-6), "norm": np.full(40, 0.2),
            "return": 0.2 + 0.01 * (np.arange(40) % 2), "entropy": 0.8 + 0.02 * np.sin(range(40)),
            "spread": np.full(40, 0.3), "loss": np.full(40, 0.01),
        }  # fmt: skip
        series |= {name: np.broadcast_to(x, 40) for name, x in changes.items()}
        yield [{there: float(series[k][i]) for k, there in names_of.items()} for i in range(40)]


@pytest.mark.parametrize("broken", ["kl", "norm", "loss", "entropy"])
def test_nan_in_any_number_of_a_language_models_update_is_found(broken):
    for rows in of_language_models(**{broken: np.where(np.arange(40) < 20, 0.2, np.nan)}):
        assert diagnosed(rows)[0] in ("training-stopped", "step-size-too-large")
        (stopped,) = (
            rule(examine_table(table_of_rows(rows, "rows")))
            for rule in logged.RULES
            if rule.name == "training-stopped"
        )
        assert "20 entries" in stopped.evidence


def test_the_steps_of_language_models_are_judged_by_what_is_logged_of_them():
    for rows in of_language_models():
        assert diagnosed(rows) == []
    for rate in (0.0, 1e-12):
        for rows in of_language_models(rate=rate, kl=0.0):
            assert diagnosed(rows) == ["step-size-too-small"]
    for rows in of_language_models(kl=0.0):  # of verl, where a batch makes one step
        assert diagnosed(rows) == []
    trl, verl = of_language_models(kl=0.6)
    assert diagnosed(trl) == []  # the KL to the reference
    assert diagnosed(verl) == ["step-size-too-large"]
    for rows in of_language_models():
        unknown = [
            {k: x for k, x in row.items() if k not in ("learning_rate", "actor/lr")} for row in rows
        ]
        found = examine_table(table_of_rows(unknown, "rows"))
        assert "step-size-too-small" in {x.name for x in not_looked_at(found)}


def test_a_library_without_an_entropy_bonus_is_told_of_none():
    trl, verl = of_language_models(entropy=np.where(np.arange(40) < 3, 0.8, 1e-6))
    (finding,) = diagnose(examine_table(table_of_rows(trl, "rows")))
    assert finding.name == "entropy-collapsed"
    assert "a higher temperature (it has no entropy bonus)" in finding.change
    assert "a smaller learning_rate" in finding.change
    (finding,) = diagnose(examine_table(table_of_rows(verl, "rows")))
    assert "actor_rollout_ref.actor.entropy_coeff=0.01" in finding.change
    rising, _ = of_language_models(entropy=np.linspace(0.5, 2, 40))
    assert diagnosed(rising) == []


def test_groups_of_equal_rewards_are_named():
    rows = [{"reward": 0.1 * i, "reward_std": 0.0, "frac_reward_zero_std": 0.95} for i in range(8)]
    (finding,) = diagnose(examine_table(table_of_rows(rows, "rows")))
    assert finding.name == "groups-without-spread"
    assert "95%" in finding.evidence


def test_advice_speaks_the_language_of_the_library(tmp_path):
    (finding,) = found_in(learning_rate=0.03, approx_kl=0.5)
    assert finding.change == "Train with learning_rate=0.0003."
    (finding,) = diagnose(examine_table(read(cleanrl(tmp_path, gamma=0.5))))
    assert finding.change == "Train with --gamma 0.99."
    assert "gamma is 0.5" in finding.evidence


def test_no_advice_names_a_flag_of_ours():
    ours = (
        "--step-size",
        "--entropy-coefficient",
        "--discount",
        "--batch",
        "--log-std",
        "--critic",
    )
    for changes in BROKEN.values():
        for finding in found_in(**changes):
            assert not [flag for flag in ours if flag in finding.change + finding.evidence]


def test_every_cause_is_either_looked_for_in_logs_or_said_not_to_be():
    own, in_logs = {rule.name for rule in RULES}, {rule.name for rule in logged.RULES}
    assert own == (in_logs - {"groups-without-spread"}) | set(ONLY_OURS)
    assert not in_logs & set(ONLY_OURS)
    for rule in logged.RULES:
        if rule.name in own:
            (same,) = (r for r in RULES if r.name == rule.name)
            assert rule.weight == same.weight
            assert set(rule.explains) <= set(same.explains)


@pytest.mark.parametrize(("kept", "expected"), [(0.4, ["return-collapsed"]), (0.7, [])])
def test_a_return_that_lost_more_than_half_of_its_gain_is_named(kept, expected):
    """20 to 420 in half of the run, and down to what is kept of the gain of 400."""
    curve = np.concatenate([np.linspace(20, 420, 20), np.full(20, 20 + 400 * kept)])
    rows = [{"score": x} for x in curve]
    found = diagnose(examine_table(table_of_rows(rows, "rows"), {"return": "score"}))
    assert names(found) == expected


def moving(episodes, new):
    """SB3's log of single returns: in each row the mean over the newest 100, `new` of them new."""
    counts = range(new, len(episodes) + 1, new)
    rows = [
        {
            "rollout/ep_rew_mean": float(episodes[max(0, n - 100) : n].mean()),
            "rollout/ep_len_mean": 50.0,
            "time/total_timesteps": 50.0 * n,
        }
        for n in counts
    ]
    return examine_table(table_of_rows(rows, "rows"))


def share(of, logs=100):
    return np.mean([of(np.random.default_rng(seed)) for seed in range(logs)])


@pytest.mark.parametrize("new", [2, 10, 20, 100])
def test_a_return_that_only_wanders_is_not_said_to_rise_or_fall(new):
    """A test at two standard deviations is wrong in one of 20; 16 of 100 is beyond 1 in 10,000."""

    def flat(rng):
        (said,) = lines_of(moving(100 + 20 * rng.standard_normal(60 * new), new))
        return said.endswith("it did not rise, beyond chance")

    assert share(flat) >= 0.84


@pytest.mark.parametrize("new", [2, 10, 20])
def test_a_rare_success_that_comes_and_goes_is_no_collapse_and_a_true_fall_is_one(new):
    def collapsed(rng, chance_of_success):
        found = moving((rng.random(60 * new) < chance_of_success).astype(float), new)
        return "return-collapsed" in names(diagnose(found))

    assert share(lambda rng: collapsed(rng, 0.1)) <= 0.05
    learned_and_lost = np.interp(np.arange(60 * new), [0, 30 * new, 36 * new], [0.1, 0.9, 0.1])
    fallen = share(lambda rng: collapsed(rng, learned_and_lost))
    # 120 episodes are hardly more than one mean: nothing can be said of them
    assert fallen == 0 if new == 2 else fallen == 1


def test_a_mean_over_episodes_whose_number_is_not_known_says_what_was_taken_for_granted():
    returns = [*range(10, 70, 10), *range(60, 0, -10)]
    rows = [{"Train/mean_reward": x, "Train/mean_episode_length": 10.0} for x in returns]
    found = examine_table(table_of_rows(rows, "rows"))
    assert "does not say how many end in between" in lines_of(found)[0]
    assert "does not say how many end in between" in diagnose(found)[0].evidence
    settings = {"num_steps_per_env": 24, "num_envs": 64}
    told = examine_table(table_of_rows(rows, "rows"), settings=settings)
    assert "does not say" not in lines_of(told)[0]
    np.testing.assert_allclose(told.metric("episodes"), 24 * 64 / 10 * np.arange(1, ROWS + 1))
