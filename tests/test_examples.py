"""The examples run, and do what they say."""

import importlib.util
import runpy
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from tests.worlds import TINY, python

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_custom_environment_and_network_learn():
    # chance is 10·(1/3 + 1/4) = 5.8
    assert load("custom_environment").main() > 15


def test_own_gradients_are_measured_and_compared(capsys):
    rng = np.random.default_rng(0)
    signal = {"weight": np.full((300, 2, 3), 0.5), "bias": np.full((300, 2), -0.5)}
    rows = {
        name: {k: x + size * rng.normal(size=x.shape) for k, x in signal.items()}
        for name, size in (("loud", 3.0), ("quiet", 1.0))
    }
    compared = load("own_gradients").report(rows)
    out = capsys.readouterr().out
    assert compared.least_error == "quiet"
    assert "quiet: variance 0.1" in out
    assert "weight: variance" in out


def test_own_gradients_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match="pip install torch"):
        load("own_gradients").torch_gradients()


def test_a_model_of_stable_baselines_is_measured(tmp_path):
    pytest.importorskip("stable_baselines3")
    told = run_example("sb3_measured", 2_048, 32, tmp_path / "seen")
    assert "noise scale" in told
    assert "gae_lambda=0.5: cosine" in told
    assert (tmp_path / "seen" / "report.html").stat().st_size > 10_000


def test_a_loop_is_measured_by_its_sketch(capsys):
    pytest.importorskip("torch")
    scales = load("sketched_loop").main(updates=2, every=2, batches=2)
    assert len(scales) == 2
    assert "update 2:" in capsys.readouterr().out


@pytest.mark.slow
def test_an_exported_policy_drives_as_the_agent_does(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "policy", raising=False)
    total = load("export_policy").main(tmp_path, steps=4096)
    monkeypatch.delitem(sys.modules, "policy")
    agent, env = policygrad.load(tmp_path / "run"), gymnasium.make("CartPole-v1")
    observation, steps, over = env.reset(seed=0)[0], 0, False
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        steps, over = steps + 1, terminated or truncated
    assert total == steps


@pytest.mark.slow
def test_evaluate_elsewhere():
    results = load("evaluate_elsewhere").main()
    assert results["as trained"].stochastic.mean > 20  # of a policy that acts at random: 22
    assert results["short"].stochastic.mean <= 10
    assert results["sticky"].wrappers == ["<lambda>"]
    assert results["noisy"].to_json()["observation_noise"] == [0.1, 0.1, 0.02, 0.1]


def run_example(name: str, *arguments: object) -> str:
    """What an example prints, run as its first lines say; it has at most thirty."""
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 30
    done = python("-W", "error::DeprecationWarning:policygrad", str(path), *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_callbacks_evaluate_keep_the_best_and_stop(tmp_path):
    told = run_example("callbacks", 22_000, tmp_path / "a")
    assert "best:" in told
    assert list((tmp_path / "a" / "best").glob("*/policy.json"))


def test_pruning_with_optuna():
    pytest.importorskip("optuna")
    assert "step_size" in run_example("pruning", 4_096)


@pytest.mark.slow
def test_hybrid_actions_are_trained_and_masked():
    run = policygrad.train(load("hybrid_actions").Workshop, algorithm="ppo", **TINY)
    found = policygrad.evaluate(run, episodes=50).stochastic
    assert found.infos.keys() == {"right", "near"}
    assert found.infos["right"].mean > 0.3  # of two tools that are not masked one is right


@pytest.mark.slow
def test_hybrid_actions_are_learned():
    told = run_example("hybrid_actions")
    assert float(told.split("'near': InfoMean(mean=")[1].split(",")[0]) > 0.8


@pytest.mark.slow
def test_two_algorithms_are_compared_in_one_picture(monkeypatch, tmp_path):
    """The example itself, with two seeds in place of five, and small networks."""

    def few(env, seeds, *, total_steps, **given):
        assert (len(seeds), total_steps) == (5, 4_096)
        return train_seeds(env, seeds[:2], **given, **TINY)

    train_seeds = policygrad.train_seeds
    monkeypatch.setattr(policygrad, "train_seeds", few)
    monkeypatch.setattr(sys, "argv", ["plot_seeds.py", "4096", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "plot_seeds.py"), run_name="__main__")
    assert (tmp_path / "compared.png").stat().st_size > 10_000


@pytest.mark.slow
def test_seeds_are_plotted(tmp_path):
    run_example("plot_seeds", 4_096, tmp_path)
    assert (tmp_path / "compared.png").stat().st_size > 10_000


def test_a_run_of_stable_baselines3_is_diagnosed(tmp_path):
    pytest.importorskip("stable_baselines3")
    assert "step size is too large" in run_example("sb3_diagnosed", tmp_path / "a")


@pytest.mark.slow
def test_strings_are_sorted_in_groups(monkeypatch, capsys, tmp_path):
    out = tmp_path / "strings.png"
    monkeypatch.setattr(
        sys, "argv",
        ["sorting_strings.py", "--estimators", "rloo", "--seeds", "1", "--out", str(out)],
    )  # fmt: skip
    load("sorting_strings").main()
    assert float(capsys.readouterr().out.split("seed 1: ")[1].split()[0]) > 0.7  # chance: 0.13
    assert out.stat().st_size > 10_000


def test_sorting_pays_the_right_places_at_the_end():
    env = load("sorting_strings").Sorting()
    state, seen = env.reset(jax.random.key(0))
    answer, paid = [*np.sort(seen["prompt"]).tolist(), env.end], []
    answer[1] = (answer[1] + 1) % env.letters
    for token in answer:
        state, seen, reward, ended, _ = env.step(None, state, jnp.int32(token))
        paid.append((float(reward), bool(ended)))
    assert paid[:-1] == [(0.0, False)] * env.length
    assert paid[-1] == (pytest.approx(4 / 5), True)
    assert np.all(seen["prompt"] == env.letters)  # hidden: the policy has to remember
