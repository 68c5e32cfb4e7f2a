"""The limit of a step, where a run is evaluated and diagnosed."""

import threading

import gymnasium
import pytest

import policygrad
from policygrad.core.errors import EnvironmentFailure, RunError, UserError
from policygrad.evaluating.places import asked_for
from policygrad.evaluating.trained import agent_and_place
from policygrad.rollout import open_source
from policygrad.runs import storage
from policygrad.runs.directory import CONFIG
from tests.cli.test_commands import command as command
from tests.cli.test_commands import parsed
from tests.cli.test_commands import refused as refused
from tests.evaluating.sleepy import HANGS, Sleepy
from tests.worlds import TINY, TINY_FLAGS, Chain, DuckChain

ENV = "tests.evaluating.sleepy:Sleepy-v0"
SHORT = {"episodes": 4, "num_envs": 2}
STEP = r"environment 0 did not return within {} s at step 3 of its episode 1 .*--step-timeout"
RESET = r"environment 0 did not return within {} s .*--step-timeout"


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A run with a limit, in an environment that hangs when it is told to."""
    path = tmp_path_factory.mktemp("limited") / "run"
    return policygrad.train(ENV, step_timeout=0.4, out=path, **TINY)


@pytest.fixture
def hangs(monkeypatch):
    monkeypatch.setenv(HANGS, "step")


class Slept:
    """An engine of one id, which steps its environments itself."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        return open_source(Sleepy, num_envs)


# ----- the run's own limit


def test_a_run_is_evaluated_with_its_own_limit(limited, hangs):
    for run in (limited, limited.path):
        with pytest.raises(EnvironmentFailure, match=STEP.format(0.4)):
            policygrad.evaluate(run, **SHORT)


def test_a_reset_that_hangs_in_an_evaluation(limited, monkeypatch):
    monkeypatch.setenv(HANGS, "reset")
    with pytest.raises(EnvironmentFailure, match=RESET.format(0.4)):
        policygrad.evaluate(limited, **SHORT)


@pytest.mark.parametrize(
    "env",
    [Sleepy, lambda: Sleepy(), "gymnasium/tests.evaluating.sleepy:Sleepy-v0"],
    ids=["class", "lambda", "another id"],
)
def test_the_limit_holds_wherever_gymnasium_steps(limited, hangs, env):
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.4)):
        policygrad.evaluate(limited, env, **SHORT)
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.4)):
        policygrad.diagnose(limited.path, env, episodes=8, gradients=False)


def test_the_limit_holds_inside_of_wrappers(limited, hangs):
    wrappers = [gymnasium.wrappers.NormalizeReward]
    with (
        pytest.warns(UserWarning, match="NormalizeReward keeps running statistics"),
        pytest.raises(EnvironmentFailure, match=STEP.format(0.4)),
    ):
        policygrad.evaluate(limited, wrappers=wrappers, **SHORT)


def test_the_limit_holds_where_a_callback_evaluates(monkeypatch):
    def evaluates(run):
        monkeypatch.setenv(HANGS, "step")
        try:
            run.evaluate(episodes=2)
        finally:
            monkeypatch.delenv(HANGS)

    with pytest.raises(EnvironmentFailure, match=STEP.format(0.4)):
        policygrad.train(ENV, step_timeout=0.4, on_update=evaluates, **TINY)


def test_a_run_is_diagnosed_with_its_own_limit(limited, hangs):
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.4)):
        policygrad.diagnose(limited.path, episodes=8, gradients=False)


def test_the_commands_say_what_hangs(command, limited, hangs):
    for words in (["evaluate", limited.path], ["diagnose", limited.path, "--no-gradients"]):
        code, _, err = command(*words, "--episodes", "8")
        assert code == 1
        line = err.strip().splitlines()[-1]
        assert "did not return within 0.4 s at step 3 of its episode 1" in line
        code, _, err = command(*words, "--episodes", "8", "--step-timeout", "0.2")
        assert code == 1
        assert "did not return within 0.2 s" in err


def test_a_limit_changes_no_returns(limited):
    plain = policygrad.evaluate(limited.agent, ENV, **SHORT)
    assert policygrad.evaluate(limited, **SHORT) == plain
    assert policygrad.evaluate(limited, step_timeout=30, **SHORT) == plain


# ----- a limit that is asked for


def test_a_limit_that_is_asked_for(limited, hangs):
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.2)):
        policygrad.evaluate(limited, step_timeout=0.2, **SHORT)
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.2)):
        policygrad.evaluate(limited.agent, Sleepy, step_timeout=0.2, **SHORT)
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.2)):
        policygrad.diagnose(limited.path, step_timeout=0.2, episodes=8)
    with pytest.raises(EnvironmentFailure, match=STEP.format(0.2)):
        policygrad.diagnose(env=Sleepy, step_timeout=0.2, config=policygrad.TrainConfig(**TINY))


@pytest.mark.slow
def test_worker_processes_are_ended(limited, hangs):
    asked = {"processes": True, "step_timeout": 1.0}
    with pytest.raises(EnvironmentFailure, match=r"within 1 s at step 3 .*--step-timeout"):
        policygrad.evaluate(limited, **asked, **SHORT)
    with pytest.raises(EnvironmentFailure, match=r"within 1 s at step 3 .*--step-timeout"):
        policygrad.diagnose(limited.path, **asked, episodes=8)


@pytest.mark.slow
def test_worker_processes_find_the_same(limited):
    here = policygrad.evaluate(limited, **SHORT)
    assert policygrad.evaluate(limited, processes=True, **SHORT) == here


def test_a_video_has_the_limit_that_is_asked_for_alone(limited, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # MoviePy is not needed
    monkeypatch.setenv(HANGS, "reset")
    with pytest.raises(EnvironmentFailure, match=r"within 0.2 s while it was tried"):
        policygrad.evaluate(limited, video=tmp_path, step_timeout=0.2)
    monkeypatch.setattr("policygrad.evaluating.playing.asked_for", lambda own, *_, **__: seen(own))

    def seen(own):
        raise UserError(f"limit: {own.step_timeout}")

    with pytest.raises(UserError, match="limit: None"):
        policygrad.evaluate(limited, video=tmp_path)


# ----- where no limit can be kept

STEPPED_OTHERWISE = {
    "gymnax": ("gymnax/CartPole-v1", {}, "--step-timeout 3 is for environments that Gymnasium"),
    "envpool": ("envpool/CartPole-v1", {}, "--step-timeout 3 is for environments that Gymnasium"),
    "an engine": ("sleepy", {"engine": Slept()}, "step_timeout=3 is not read by Slept"),
    "JAX-native": (DuckChain(), {}, "step_timeout=3 is not read by the JAX-native object"),
    "with parameters": ((DuckChain(), None), {}, "step_timeout=3 is not read by the JAX-native"),
    "a source": (open_source(DuckChain(), 2), {}, "step_timeout=3 is not read by CompiledSource"),
    "a compiled one": (
        policygrad.environments.make("gymnax/CartPole-v1", 1), {}, "step_timeout=3 is not read by",
    ),
    "lanes": (policygrad.environments.make(Chain, 2), {}, "which steps its lanes itself"),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPPED_OTHERWISE)
def test_what_is_stepped_otherwise_drops_the_runs_limit_and_refuses_one_asked_for(limited, name):
    env, others, message = STEPPED_OTHERWISE[name]
    place = asked_for(limited.place, env, None, others.get("engine"))
    assert place.step_timeout is None
    asked = asked_for(limited.place, env, None, others.get("engine"), step_timeout=3)
    with pytest.raises(UserError, match=message), asked.opened(2, 0.0):
        pass


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("gymnax/CartPole-v1", {}),
        (None, {}),
        ("CartPole-v1", {"env_kwargs": {"sutton_barto_reward": True}}),
    ],
    ids=["another engine", "its own", "other arguments"],
)
def test_a_runs_limit_costs_no_evaluation_elsewhere(tmp_path, env, settings):
    path = tmp_path / "run"
    policygrad.train("CartPole-v1", step_timeout=20, out=path, **TINY)
    assert policygrad.evaluate(path, env, episodes=2, **settings).stochastic.episodes == 2
    if not settings:
        assert policygrad.diagnose(path, env, episodes=8, gradients=False).examination.sample


def test_outside_of_the_main_thread(limited):
    found = {}

    def evaluate():
        found["own"] = policygrad.evaluate(limited, **SHORT).stochastic.mean
        try:
            policygrad.evaluate(limited, step_timeout=3, **SHORT)
        except UserError as error:
            found["asked for"] = str(error)

    thread = threading.Thread(target=evaluate)
    thread.start()
    thread.join()
    assert found["own"] == 5
    assert "outside of the main thread; add --processes" in found["asked for"]


def test_a_vector_environment_of_the_users_own(limited, hangs):
    vector = gymnasium.vector.SyncVectorEnv([Sleepy, Sleepy])
    with pytest.raises(EnvironmentFailure, match=r"within 0.4 s .*--step-timeout"):
        policygrad.evaluate(limited, vector, episodes=2)
    with pytest.raises(UserError, match="processes=True is not read by the vector environment"):
        policygrad.evaluate(limited, vector, episodes=2, processes=True)


# ----- what is no limit


@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), 1e-9, 0.0005, 1e7, 1e300, "1", True, [1], 1j]
)
def test_what_no_timer_can_wait_for_is_refused_everywhere(limited, value):
    calls = (
        lambda: policygrad.train(ENV, step_timeout=value, **TINY),
        lambda: policygrad.evaluate(limited, step_timeout=value),
        lambda: policygrad.diagnose(limited.path, step_timeout=value),
    )
    for call in calls:
        with pytest.raises(UserError, match=r"--step-timeout must be .*from 0.001 to 1000000"):
            call()


@pytest.mark.parametrize("words", [["evaluate"], ["diagnose"]])
def test_the_commands_refuse_what_is_no_limit(refused, limited, words):
    assert "from 0.001 to 1000000" in refused(*words, limited.path, "--step-timeout", "0")


def test_a_diagnosis_still_refuses_settings_of_the_run(refused, limited):
    line = refused("diagnose", limited.path, "--discount", "0.5", "--step-timeout", "3")
    assert "except --seed, --processes, --step-timeout" in line


@pytest.mark.parametrize("value", [0, "soon", [], 1e300, True, {}])
def test_a_file_with_another_limit_is_damaged(limited, tmp_path, value):
    path = tmp_path / "run"
    path.mkdir()
    for file in limited.path.glob("*.*"):
        (path / file.name).write_bytes(file.read_bytes())
    saved = storage.read_checked_json(path / CONFIG)
    saved["config"]["step_timeout"] = value
    (path / CONFIG).write_text(storage.json.dumps(storage.signed(saved)))
    with pytest.raises(RunError, match=r"config.json: --step-timeout must be"):
        agent_and_place(path)


def test_settings_of_the_command_line_reach_the_evaluation(command, tmp_path):
    command("train", ENV, *TINY_FLAGS, "--step-timeout", "9", "--out", tmp_path / "run")
    code, out, _ = command("evaluate", tmp_path / "run", "--episodes", "2", "--json")
    assert (code, parsed(out)["stochastic"]["mean"]) == (0, 5)
    with pytest.raises(UserError, match="is for environments that Gymnasium steps"):
        policygrad.evaluate(tmp_path / "run", "gymnax/CartPole-v1", step_timeout=1)
