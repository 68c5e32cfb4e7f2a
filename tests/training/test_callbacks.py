"""Callbacks: what they see, what they stop, and what is kept where they fail."""

import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.vector import SyncVectorEnv

import policygrad
from policygrad import algorithms, callbacks
from policygrad.core.errors import RunError, UserError
from policygrad.gradients.forms import ResetAtRewards
from policygrad.rollout import open_source
from policygrad.runs import RunDirectory, storage
from tests.slow import slow
from tests.worlds import DUCK, TINY, Chain

both = pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])
LONG = TINY | {"total_steps": 320}


def at(update, does):
    """A callback that does something at one update."""

    def callback(run):
        return does(run) if run["update"] == update else None

    return callback


def throw(error):
    raise error


def assert_bitwise(ours, theirs):
    """Two policies have the same bits."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if hasattr(a, "shape"):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def again(env):
    """What a resumed run of this environment is given."""
    return {"env": env}


def stopping():
    yield "returns STOP", lambda run: policygrad.STOP
    yield "raises Stop", lambda run: throw(policygrad.Stop())
    yield "raises the class", lambda run: throw(policygrad.Stop)
    yield "returns the exception's class", lambda run: policygrad.Stop
    yield "returns the exception", lambda run: policygrad.Stop()
    yield "returns its own copy", lambda run: __import__("copy").deepcopy(policygrad.STOP)


@both
@pytest.mark.parametrize(("name", "does"), list(stopping()), ids=[n for n, _ in stopping()])
def test_case_19_a_callback_ends_the_run_with_everything_kept(env, tmp_path, name, does):
    if "copy" in name:
        assert does(None) is policygrad.STOP
    run = policygrad.train(env, out=tmp_path / "a", on_update=at(3, does), **LONG)
    assert run.interrupted
    assert run.summary["stopped_by"] == "callback"
    assert run.summary["env_steps"] == 96
    assert [row["update"] for row in run.metrics] == [1, 2, 3]
    assert RunDirectory(run.path).newest_checkpoint().name == "000000000096"
    assert_bitwise(policygrad.load(run.path).policy, run.policy)


@both
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(env, tmp_path):
    policygrad.train(env, out=tmp_path / "a", on_update=at(3, lambda run: policygrad.STOP), **LONG)
    resumed = policygrad.resume(tmp_path / "a", **again(env))
    assert resumed.summary["stopped_by"] is None
    assert_bitwise(resumed.policy, policygrad.train(env, **LONG).policy)


class Mine(Exception):
    pass


@both
@pytest.mark.parametrize(
    "error",
    [Mine("no"), ValueError(), KeyboardInterrupt(), SystemExit(3), AssertionError(), OSError()],
    ids=repr,
)
def test_case_19_an_error_of_a_callback_comes_out_and_the_newest_state_is_kept(
    env, tmp_path, error
):
    path = tmp_path / "a"
    with pytest.raises(type(error)) as caught:
        policygrad.train(env, out=path, on_update=at(3, lambda run: throw(error)), **LONG)
    assert caught.value is error
    directory = RunDirectory(path)
    assert directory.newest_checkpoint().name == "000000000096"
    assert directory.read_summary()["stopped_by"] == type(error).__name__
    assert [row["update"] for row in directory.read_metrics()] == [1, 2, 3]
    resumed = policygrad.resume(path, **again(env))
    assert_bitwise(resumed.policy, policygrad.train(env, **LONG).policy)


@pytest.mark.parametrize(
    "answer", [False, 0, 1, "stop", [], StopIteration, np.bool_(False)], ids=repr
)
def test_an_answer_that_means_nothing_is_an_error_that_names_it(tmp_path, answer):
    with pytest.raises(UserError, match=r"returned .*; return policygrad\.STOP"):
        policygrad.train(DUCK, out=tmp_path / "a", on_update=lambda run: answer, **LONG)
    assert RunDirectory(tmp_path / "a").newest_checkpoint().name == "000000000032"


@pytest.mark.parametrize("value", [3, "print", {}, [print, 3], policygrad.STOP], ids=repr)
def test_what_cannot_be_called_is_refused_before_training(tmp_path, value):
    with pytest.raises(UserError, match="on_update must be a function of one argument, or a list"):
        policygrad.train(DUCK, out=tmp_path / "a", on_update=value, **TINY)
    assert not (tmp_path / "a").exists()


@both
def test_a_callback_sees_the_policy_of_its_row(env):
    """The policy of every update is that of a run that ends there."""
    seen = {}
    policygrad.train(
        env, on_update=lambda run: seen.update({run["update"]: jax.device_get(run.policy)}), **LONG
    )
    assert list(seen) == list(range(1, 11))
    for update in (1, 4, 10):
        ended = policygrad.train(env, **TINY | {"total_steps": 32 * update})
        assert_bitwise(seen[update], ended.policy)


@both
def test_callbacks_change_no_bit(env):
    def everything(run):
        run.evaluate(2, max_episode_steps=5)
        run.save()
        assert run.agent.act(np.zeros(2, np.float32)) in (0, 1)

    watched = policygrad.train(env, on_update=[everything, lambda run: None], **LONG)
    alone = policygrad.train(env, **LONG)
    assert_bitwise(watched.policy, alone.policy)
    timed = {"seconds", "steps_per_second"}
    for a, b in zip(watched.metrics, alone.metrics, strict=True):
        assert {k: v for k, v in a.items() if k not in timed} == {
            k: v for k, v in b.items() if k not in timed
        }


def test_a_callback_is_a_mapping_of_the_metrics(tmp_path):
    seen = []
    run = policygrad.train(DUCK, out=tmp_path / "a", on_update=seen.append, **TINY)
    assert [dict(m) for m in seen] == run.metrics
    assert seen[0]["update"] == 1
    assert "kl" in seen[0]
    assert seen[0].path == run.path
    assert seen[0].config == run.config
    assert isinstance(seen[0].agent, policygrad.Agent)


def test_numbers_of_a_callback_are_written_with_the_row(tmp_path):
    run = policygrad.train(
        DUCK,
        out=tmp_path / "a",
        on_update=lambda run: run.log(mine=run["update"] / 2),
        **TINY,
    )
    assert [row["mine"] for row in run.metrics] == [0.5, 1.0]
    for numbers in ({"kl": 1.0}, {"mine": "x"}, {"mine": [1.0]}):
        with pytest.raises(UserError, match="metric"):
            policygrad.train(DUCK, on_update=lambda run, n=numbers: run.log(**n), **TINY)


def test_a_callback_of_numbers_alone_gets_a_dictionary():
    class Numbers:
        needs_state = False

        def __init__(self):
            self.rows = []

        def __call__(self, row):
            self.rows.append(row)

    numbers = Numbers()
    run = policygrad.train(DUCK, on_update=numbers, **LONG)
    assert all(type(row) is dict for row in numbers.rows)
    assert numbers.rows == run.metrics


STEPPED = {
    "a vector environment": lambda: gymnasium.vector.SyncVectorEnv([Chain] * 4),
    "lanes": lambda: policygrad.environments.make(Chain, 4),
    "a source": lambda: open_source(Chain, 4),
}


@pytest.mark.parametrize("make", STEPPED.values(), ids=STEPPED)
def test_what_the_run_steps_is_not_evaluated_while_it_trains(make):
    with pytest.raises(UserError, match=r"trains in the one .* it was given.*pass env="):
        policygrad.train(make(), on_update=lambda run: run.evaluate(), **TINY)


# ----- the built-in ones


def test_stop_at_a_return():
    run = policygrad.train(DUCK, on_update=callbacks.stop_at_return(-100.0, over=20), **LONG)
    ended = [row["episodes"] for row in run.metrics]
    assert run.interrupted
    assert ended[-1] >= 20
    assert all(episodes < 20 for episodes in ended[:-1])
    assert not policygrad.train(DUCK, on_update=callbacks.stop_at_return(1e9), **LONG).interrupted
    for over in (0, 101, 1.5, True):
        with pytest.raises(UserError, match="from 1 to 100"):
            callbacks.stop_at_return(1.0, over=over)


def test_the_mean_of_the_newest_returns_is_of_the_newest(monkeypatch):
    means = []

    def look(run):
        means.append((run["episodes"], run.recent_return(100), run["return_mean"]))

    policygrad.train(DUCK, on_update=look, **TINY | {"total_steps": 640})
    assert means[0][1] is None
    episodes, ours, theirs = means[-1]
    assert episodes > 100
    assert ours == pytest.approx(theirs)


@both
def test_evaluations_on_environments_of_their_own(env, tmp_path):
    path = tmp_path / "a"
    run = policygrad.train(
        env, out=path, on_update=callbacks.evaluate_every(64, episodes=3), **LONG
    )
    rows = [row for row in run.metrics if "evaluation/return_mean" in row]
    assert [row["env_steps"] for row in rows] == [64, 128, 192, 256, 320]
    lines = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
    assert [line["return_mean"] for line in lines] == [r["evaluation/return_mean"] for r in rows]
    assert len({line["seed"] for line in lines}) == 5
    assert_bitwise(run.policy, policygrad.train(env, **LONG).policy)


def test_evaluations_behind_the_checkpoint_are_dropped_at_resume(tmp_path):
    path, evaluate = tmp_path / "a", callbacks.evaluate_every(32, episodes=2)
    policygrad.train(DUCK, out=path, on_update=evaluate, checkpoint_seconds=0, **LONG)
    first = path / "checkpoints"
    early = sorted(first.iterdir())[0]
    policygrad.resume(early, env=DUCK, on_update=evaluate)
    steps = [
        json.loads(x)["env_steps"] for x in (path / "evaluations.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(32, 321, 32))


@both
def test_the_best_policy_is_kept(env, tmp_path):
    path, best = tmp_path / "a", callbacks.keep_best("evaluation/return_mean")
    both = [callbacks.evaluate_every(32, episodes=3), best]
    run = policygrad.train(env, out=path, on_update=both, **LONG)
    values = [row["evaluation/return_mean"] for row in run.metrics]
    assert best.value == max(values)
    assert best.agent is not None
    assert_bitwise(policygrad.load(path / "best").policy, best.agent.policy)
    (folder,) = (path / "best").iterdir()
    assert int(folder.name) == run.metrics[int(np.argmax(values))]["env_steps"]
    assert_bitwise(policygrad.load(folder).policy, best.agent.policy)
    later = callbacks.keep_best("evaluation/return_mean")
    both = [callbacks.evaluate_every(10_000, episodes=3), later]
    policygrad.resume(path, total_steps=352, on_update=both, **again(env))
    assert later.value == best.value


EVALUATED = "evaluation/return_mean"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([callbacks.keep_best("retrun_mean", write=False)], "did you mean return_mean"),
        ([callbacks.stop_at_return(1, metric="retun_mean")], "did you mean return_mean"),
        ([callbacks.keep_best("noise_scale", write=False)], "which no row holds"),
        ([callbacks.keep_best("info/success", write=False)], "which no row holds"),
        ([callbacks.keep_best(EVALUATED, write=False)], "put one before it in on_update"),
        (
            [
                callbacks.keep_best(EVALUATED, write=False),
                callbacks.evaluate_every(32, episodes=1),
            ],
            "put evaluate_every first",
        ),
        (
            [
                callbacks.evaluate_every(32, episodes=1),
                callbacks.stop_at_return(1e9, metric="evaluation/mean"),
            ],
            "did you mean evaluation/return_mean",
        ),
    ],
)
def test_a_metric_that_no_row_can_hold_is_an_error_at_the_first_row(given, problem):
    with pytest.raises(UserError, match=problem):
        policygrad.train(DUCK, on_update=given, **TINY)


def test_a_metric_that_comes_later_is_waited_for():
    def log(run):
        if run["update"] == 2:
            run.log(mine=3.0)

    best = callbacks.keep_best("mine", write=False)
    noise = callbacks.keep_best("noise_scale", write=False)
    given = [log, best, noise, callbacks.evaluate_every(64, episodes=1)]
    given += [callbacks.stop_at_return(1e9, metric=EVALUATED)]
    policygrad.train(DUCK, on_update=given, monitor_every=2, **TINY)
    assert best.value == 3.0


def test_the_best_policy_needs_a_place_before_the_first_step(tmp_path):
    seen = []
    for given in (best := callbacks.keep_best(), [callbacks.evaluate_every(32), best]):
        with pytest.raises(UserError, match="there is none: give out= too"):
            policygrad.train(Chain, on_update=[seen.append, given], **TINY)
    assert not seen
    best = callbacks.keep_best("episodes", write=False)
    for out in (None, tmp_path / "a"):
        run = policygrad.train(DUCK, on_update=best, out=out, **TINY)
        assert best.agent is not None
        assert_bitwise(best.agent.policy, run.policy)
    assert not (tmp_path / "a" / "best").exists()


class Mine:
    """A callback of one's own, as a class."""

    def __call__(self, run):
        return None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (callbacks.stop_at_return, r"pass callbacks\.stop_at_return\(200\)"),
        (callbacks.evaluate_every, r"pass callbacks\.evaluate_every\(20_000\)"),
        (callbacks.keep_best, r"pass callbacks\.keep_best\(\)"),
        (callbacks.schedule, r"pass callbacks\.schedule\("),
        ([print, callbacks.stop_at_return], "got the class stop_at_return"),
        (Mine, r"pass Mine\(…\)"),
    ],
)
def test_a_class_is_no_callback(tmp_path, given, told):
    with pytest.raises(UserError, match=told):
        policygrad.train(Chain, out=tmp_path / "a", on_update=given, **TINY)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "given",
    [callbacks.stop_at_return, callbacks.stop_at_return(1), [print], lambda run: None, "print"],
)
def test_callbacks_of_one_run_are_none_of_many_seeds(given):
    with pytest.raises(UserError, match="must be a function of a seed and the metrics"):
        policygrad.train_seeds(Chain, range(2), on_update=given, **TINY)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_metric_that_is_not_finite_is_never_best(tmp_path, bad):
    values = iter([bad, 2.0, bad, 1.0])
    given = [lambda run: run.log(mine=next(values)), best := callbacks.keep_best("mine")]
    settings = LONG | {"total_steps": 96}
    policygrad.train(DUCK, out=tmp_path / "a", on_update=given, **settings)
    assert best.value == 2.0
    policygrad.resume(tmp_path / "a", total_steps=128, env=DUCK, on_update=given)
    assert best.value == 2.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: callbacks.stop_at_return("high"),
        lambda: callbacks.stop_at_return(float("nan")),
        lambda: callbacks.stop_at_return(1.0, metric=3),
        lambda: callbacks.keep_best(None),
        lambda: callbacks.evaluate_every(0),
        lambda: callbacks.evaluate_every("often"),
        lambda: callbacks.evaluate_every(True),
        lambda: callbacks.evaluate_every(1.5),
        lambda: callbacks.evaluate_every(32, episodes=0),
        lambda: callbacks.evaluate_every(32, episodes=None),
        lambda: callbacks.evaluate_every(32, max_epsiode_steps=3),
        lambda: callbacks.evaluate_every(32, run=3),
        lambda: callbacks.schedule(3, lambda steps: 1.0),
    ],
)
def test_a_callback_that_cannot_be_is_refused_as_it_is_made(make):
    with pytest.raises(UserError):
        make()


def test_a_schedule_replaces_a_number_and_compiles_nothing_anew(tmp_path):
    seen = []

    def look(run):
        seen.append(float(run._training.assembly.learner.algorithm.clip_ratio))

    settings = LONG | {"algorithm": "ppo"}
    change = callbacks.schedule("clip_ratio", lambda steps: 0.3 - steps / 10_000)
    policygrad.train(DUCK, on_update=[look, change], **settings)
    np.testing.assert_allclose(seen, [0.3 - 32 * n / 10_000 for n in range(10)], rtol=1e-6)


@both
def test_a_scheduled_run_that_is_resumed_equals_one_that_was_not(env, tmp_path):
    path = tmp_path / "a"
    change = callbacks.schedule("entropy_coefficient", lambda steps: 1e-2 * (1 - steps / 320))
    stop = at(4, lambda run: policygrad.STOP)
    whole = policygrad.train(env, on_update=change, **LONG)
    policygrad.train(env, out=path, on_update=[change, stop], **LONG)
    with pytest.raises(UserError, match=r"schedules of \['entropy_coefficient'\], got .* nothing"):
        policygrad.resume(path, **again(env))
    resumed = policygrad.resume(path, on_update=change, **again(env))
    assert_bitwise(resumed.policy, whole.policy)
    plain = policygrad.train(env, **LONG)
    leaves = zip(jax.tree.leaves(whole.policy), jax.tree.leaves(plain.policy), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("entropy_coefficient", 0.05),
        ("discount", 0.5),
        pytest.param("gae_lambda", 0.2, marks=slow),
        ("max_global_norm", 1e-3),
        ("target_kl", 1e-4),
        ("target_kl", 0),
    ],
)
def test_a_number_that_was_set_once_is_kept_by_a_resumed_run(tmp_path, name, value):
    path, stop = tmp_path / "a", at(4, lambda run: policygrad.STOP)
    change, known = at(2, lambda run: run.set(name, value)), {"algorithm": "ppo"}
    settings = LONG | known | {"step_size_schedule": "constant"}
    whole = policygrad.train(DUCK, on_update=change, **settings)
    policygrad.train(DUCK, out=path, on_update=[change, stop], **settings)
    resumed = policygrad.resume(path, env=DUCK)
    assert resumed.summary["resumed_exactly"]
    assert_bitwise(resumed.policy, whole.policy)


def test_a_number_of_a_form_that_resets_at_rewards_is_set():
    seen = []

    def look(run):
        if len(seen) == 1:
            run.set("gae_lambda", 0.25)
        seen.append(run._training.assembly.learner.estimator.form)

    policygrad.train(DUCK, on_update=look, **TINY | {"resets_at_rewards": True})
    assert all(isinstance(form, ResetAtRewards) for form in seen)
    lambdas = [float(form.form.gae_lambda) for form in seen]
    assert (lambdas[0], lambdas[-1]) == (pytest.approx(0.95), 0.25)


def test_a_setting_that_is_changed_replaces_a_number_that_was_set(tmp_path):
    path, seen = tmp_path / "a", []
    change = at(2, lambda run: run.set("discount", 0.5))

    def look(run):
        seen.append(float(run._training.assembly.learner.estimator.discount))

    policygrad.train(DUCK, out=path, on_update=change, **TINY)
    policygrad.resume(path, total_steps=96, env=DUCK, on_update=look)
    policygrad.resume(path, total_steps=128, discount=0.75, env=DUCK, on_update=look)
    policygrad.resume(path, total_steps=160, env=DUCK, on_update=look)
    assert seen == [0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("clip_ratio", 0.2, "reads no number 'clip_ratio'"),
        ("entropy_coeficient", 0.0, "did you mean entropy_coefficient"),
        ("entropy_coefficient", -1.0, "must be at least 0"),
        ("entropy_coefficient", float("nan"), "must be at least 0"),
        ("entropy_coefficient", "x", "must be at least 0"),
        ("step_size", 1e-3, "follows the KL"),
        ("seed", 1, "reads no number 'seed'"),
        ("num_envs", 8, "reads no number 'num_envs'"),
        ("count", 3.0, "reads no number 'count'"),
        ("discount", 5.0, "must be from 0 to 1"),
        ("discount", True, "must be from 0 to 1"),
        ("gae_lambda", float("nan"), "must be from 0 to 1"),
        ("gae_lambda", -0.5, "must be from 0 to 1"),
        ("gae_lambda", "high", "must be from 0 to 1"),
        ("entropy_coefficient", float("inf"), "must be "),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_training(tmp_path, name, value, problem):
    change = callbacks.schedule(name, lambda steps: value)
    with pytest.raises(UserError, match=problem):
        policygrad.train(DUCK, out=tmp_path / "a", on_update=change, **TINY)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"algorithm": "ppo"}, "step_size"),
        ({"algorithm": "ppo"}, "target_kl"),
        pytest.param({"algorithm": "natural"}, "target_kl", marks=slow),
        pytest.param({"algorithm": "trpo"}, "target_kl", marks=slow),
        ({"step_size_schedule": "linear"}, "target_kl"),
        ({"step_size_schedule": "linear", "target_kl": 0.0}, "step_size"),
    ],
)
def test_two_schedules_of_one_number_are_refused(settings, name):
    change = callbacks.schedule(name, lambda steps: 1e-3)
    with pytest.raises(UserError, match="beside step_size_schedule='linear'"):
        policygrad.train(DUCK, on_update=change, **TINY, **settings)
    settings |= {"step_size_schedule": "constant"}
    if name == "target_kl":
        policygrad.train(DUCK, on_update=change, **TINY, **settings)


@pytest.mark.parametrize("name", ["step_size", "target_kl"])
@pytest.mark.parametrize("algorithm", ["vanilla", "ppo"])
def test_a_schedule_that_nothing_reads_is_refused(name, algorithm):
    settings = TINY | {"algorithm": algorithm, "optimiser": optax.adam(1e-3)}
    change = callbacks.schedule(name, lambda steps: 1e-3)
    with pytest.raises(UserError, match=f"nothing reads {name}: the optimiser takes steps"):
        policygrad.train(DUCK, on_update=change, **settings)


def test_a_step_size_without_a_kl_target_follows_its_schedule():
    sizes = []
    change = callbacks.schedule("step_size", lambda steps: 1e-3 / (1 + steps / 32))
    algorithm = algorithms.Vanilla(target_kl=0.0)
    settings = TINY | {"total_steps": 96}
    policygrad.train(
        DUCK,
        algorithm=algorithm,
        on_update=[lambda run: sizes.append(run["step_size"]), change],
        **settings,
    )
    np.testing.assert_allclose(sizes, [1e-3, 1e-3 / 2, 1e-3 / 3], rtol=1e-5)


# ----- many seeds


def test_seeds_are_not_stopped_by_a_callback_and_say_so(tmp_path):
    def stop(seed, metrics):
        return policygrad.STOP if metrics["update"] == 2 else None

    with pytest.raises(UserError, match="cannot stop a seed"):
        policygrad.train_seeds(DUCK, range(2), out=tmp_path / "a", on_update=stop, **LONG)
    for seed in range(2):
        newest = RunDirectory(tmp_path / "a" / f"seed-{seed}").newest_checkpoint()
        assert int(newest.name) >= 32 * (seed == 0)


def test_a_best_policy_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "a"
    keep = [callbacks.evaluate_every(32, episodes=1), callbacks.keep_best("evaluation/return_mean")]
    policygrad.train(DUCK, out=path, on_update=keep, **TINY)
    (file,) = (path / "best").glob("*/policy.json")
    file.write_text("{}")
    with pytest.raises(RunError, match=r"policy\.json"):
        policygrad.load(path / "best")
    body = {"x": np.zeros(1)}
    storage.save(file.with_suffix(""), body, {"metric": 3, "value": "x"})
    with pytest.raises(RunError, match="how good"):
        RunDirectory(path).read_best()


SCALARS = [
    0.25, np.float32(0.25), np.float64(0.25), np.asarray(0.25), jnp.asarray(0.25),
    jnp.asarray(0.25, jnp.bfloat16),
]  # fmt: skip
NO_SCALARS = [jnp.zeros(1), np.ones(3), jnp.zeros((2, 2)), "x", [0.25], [[1], [1, 2]], 1j]


@pytest.mark.parametrize("value", [*SCALARS, *NO_SCALARS], ids=repr)
def test_further_a_scalar_array_is_a_number_and_no_other_array_is(value):
    taken = any(value is x for x in SCALARS)
    seen = {}

    def number(run):
        run.log(mine=value)
        run.set("entropy_coefficient", value)
        seen.update(run)

    if taken:
        policygrad.train(DUCK, on_update=number, **TINY)
        assert seen["mine"] == 0.25
        assert type(seen["mine"]) is float
        assert callbacks.stop_at_return(value, over=np.int32(3)).value == 0.25
        return
    with pytest.raises(UserError, match="mine="):
        policygrad.train(DUCK, on_update=number, **TINY)
    with pytest.raises(UserError, match="entropy-coefficient"):
        policygrad.train(
            DUCK, on_update=callbacks.schedule("entropy_coefficient", lambda _: value), **TINY
        )
    with pytest.raises(UserError, match="value"):
        callbacks.stop_at_return(value)


def test_a_schedule_of_optax_sets_a_number():
    decay = optax.linear_schedule(0.02, 0.0, 64)
    seen = []

    def look(run):
        seen.append(float(run._training.assembly.learner.algorithm.entropy_coefficient))

    change = callbacks.schedule("entropy_coefficient", decay)
    policygrad.train(DUCK, on_update=[change, look], **TINY)
    np.testing.assert_allclose(seen, [0.01, 0.0], atol=1e-8)


# ----- what is saved


def test_where_numbers_alone_were_asked_for_an_error_says_from_where_the_run_goes_on(tmp_path):
    """On the host the next batch is under way by then, so that no checkpoint can be written."""
    fails = at(2, lambda row: throw(ValueError("mine")))
    fails.needs_state = False
    with pytest.raises(ValueError, match="mine") as caught:
        policygrad.train(Chain, out=tmp_path / "a", on_update=fails, **LONG)
    (note,) = caught.value.__notes__
    assert note.startswith("the policy after 64 steps is saved; go on from 0 steps with: ")
    assert (tmp_path / "a" / "policy.json").exists()


@pytest.mark.parametrize("name", ["entropy_coefficient", "step_size"])
def test_a_number_that_is_set_after_a_checkpoint_of_the_same_update_is_kept(name, tmp_path):
    def change(run):
        run.save()
        run.set(name, 0.125)

    settings = LONG | {"total_steps": 32, "algorithm": "vanilla", "target_kl": 0.0}
    run = policygrad.train(DUCK, out=tmp_path / "a", on_update=change, **settings)
    kept = RunDirectory(run.path).checkpoints()
    assert [int(p.name) for p in kept] == [0, 32]
    arrays, data = storage.load(kept[-1] / "state")
    held = {k.rpartition("/")[2]: x.item() for k, x in arrays.items() if x.size == 1}
    assert (data["numbers"] | held)[name] == 0.125


# ----- the first episodes to end are the short ones


def test_stopping_at_a_return_waits_until_every_environment_has_ended_an_episode():
    def wait(run):
        ended.append(run.first_episodes_ended)

    ended, stop = [], callbacks.stop_at_return(-1e9, over=1)
    vector = SyncVectorEnv([Chain, Chain, Chain, lambda: Chain(20)])
    run = policygrad.train(vector, on_update=[wait, stop], **LONG)
    assert run.metrics[0]["episodes"] > 0
    assert ended == [False, False, True]
    assert run.summary["updates"] == 3
