"""Gradients of PyTorch modules against plain loops, and measurements against this library's own."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from policygrad import baselines, diagnostics, estimators
from policygrad import torch as of_torch
from policygrad.core.errors import UserError
from policygrad.diagnostics import CountSketch
from policygrad.tabular import gallery
from policygrad.torch import Episode, ModuleValues, TorchPolicy, gradients
from tests.diagnostics.sampling import sampler

torch = pytest.importorskip("torch")

N = 60


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def chain():
    """The chain with its softmax in both libraries, and what weighs its scores."""
    with jax.enable_x64(True):
        task = gallery.chain()
        rng = np.random.default_rng(0)
        theta = rng.normal(size=np.shape(task.policy.theta)) / 2
        policy = replace(task.policy, theta=jax.numpy.asarray(theta))
        record = sampler(gallery.Task(task.mdp, policy), N)(jax.random.key(0))
        table = baselines.table(np.linspace(-1, 1, task.mdp.states))
        based = estimators.reward_to_go(discount=0.9, baseline=table)
        plain = estimators.reward_to_go(discount=0.9)
        state = [e.init(jax.random.key(0), 0) for e in (based, plain)]
    module = torch.nn.Embedding(*theta.shape, dtype=torch.float64)
    module.weight.data[:] = torch.tensor(theta)
    return policy, TorchPolicy(module, log_probs), record, (based, state[0]), (plain, state[1])


def log_probs(module, observations, actions):
    return torch.distributions.Categorical(logits=module(observations)).log_prob(actions)


def close(ours, theirs, names):
    for name in names:
        a, b = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(
            [a.value, a.low, a.high], [b.value, b.low, b.high], rtol=1e-8, atol=1e-12
        )


@pytest.mark.parametrize("batches", [1, 2])
def test_noise_is_what_this_library_measures_of_the_same_policy(chain, batches):
    policy, module, record, based, _ = chain
    theirs = diagnostics.gradient_noise(policy, *based, record)
    given = record if batches == 1 else (
        jax.tree.map(lambda x, p=p: x[:, p], record) for p in (slice(0, 23), slice(23, N))
    )  # fmt: skip
    ours = of_torch.gradient_noise(module, *based, given)
    assert list(ours.parts) == ["weight"]
    close(ours.total, theirs.total, ("variance", "squared_norm", "noise_scale", "along"))
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-12)
    np.testing.assert_allclose(ours.cosines.between.high, theirs.cosines.between.high, rtol=1e-8)
    np.testing.assert_allclose(
        ours.cosines.between_by_length, theirs.cosines.between_by_length, rtol=1e-6
    )


def test_decomposition_and_comparison_are_those_of_this_library(chain):
    policy, module, record, based, plain = chain
    theirs = diagnostics.decompose_variance(policy, *based, record)
    ours = of_torch.decompose_variance(module, *based, record)
    close(ours.total, theirs.total, ("variance", "diagonal", "cross", "factored", "cross_ratio"))
    np.testing.assert_allclose(ours.by_step.high, theirs.by_step.high, rtol=1e-8)
    which = {"based": based, "plain": plain}
    given = {"reference": "plain", "batch_episodes": 10}
    theirs = diagnostics.compare_estimators(policy, which, record, **given)
    ours = of_torch.compare_estimators(module, which, record, **given)
    for name, x in theirs.estimators.items():
        close(ours.estimators[name], x, ("variance", "squared_bias", "mean_squared_error"))


class Network(torch.nn.Module):
    """A network with a part that log-probabilities do not depend on, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh())
        self.head = torch.nn.Linear(8, 2)
        self.value = torch.nn.Linear(8, 1)
        self.frozen = torch.nn.Linear(3, 3)
        self.frozen.requires_grad_(False)

    def score(self, observations, actions):
        logits = self.head(self.body(self.frozen(observations["x"])))
        return torch.distributions.Categorical(logits=logits).log_prob(actions)


class Recurrent(torch.nn.Module):
    """A memory written out, so that vmap goes through it."""

    def __init__(self):
        super().__init__()
        self.cell = torch.nn.Linear(3 + 4, 4)
        self.head = torch.nn.Linear(4, 2)

    def score(self, observations, actions):
        state, logits = observations["x"].new_zeros(4), []
        for x in observations["x"]:
            state = torch.tanh(self.cell(torch.cat([x, state])))
            logits.append(self.head(state))
        return torch.distributions.Categorical(logits=torch.stack(logits)).log_prob(actions)


def episodes(lengths=(5, 1, 9, 9, 2, 30)):
    rng = np.random.default_rng(1)
    return [
        Episode(
            {"x": rng.normal(size=(n, 3)).astype(np.float32)},
            rng.integers(2, size=n),
            rng.normal(size=n),
            bool(n % 2),
            {"x": rng.normal(size=3).astype(np.float32)},
        )
        for n in lengths
    ]


@pytest.mark.parametrize("kind", [Network, Recurrent])
@pytest.mark.parametrize("vectorised", [True, False])
def test_gradients_are_those_of_a_loop_of_backward(monkeypatch, kind, vectorised):
    monkeypatch.setattr(gradients, "ROWS", 40)  # several chunks
    torch.manual_seed(0)
    module, given = kind(), episodes()
    policy = TorchPolicy(module, kind.score, memory=True, vectorised=vectorised)
    record = of_torch.record_of(given)
    psi = np.random.default_rng(2).normal(size=record.rewards.shape)
    psi[~record.valid] = np.nan  # padding is not read
    found = of_torch.episode_gradients(policy, record, np.where(record.valid, psi, 0.0))
    names = {k for k, _ in module.named_parameters() if not k.startswith(("value", "frozen"))}
    assert set(found) == names
    for i, episode in enumerate(given):
        module.zero_grad()
        seen = {"x": torch.as_tensor(episode.observations["x"])}
        scores = kind.score(module, seen, torch.as_tensor(episode.actions))
        (torch.as_tensor(psi[: len(scores), i]) * scores).sum().backward()
        for name in names:
            expected = module.get_parameter(name).grad
            assert float((found[name][i] - expected).norm()) <= 1e-5 * float(expected.norm())
    module.zero_grad()


def test_sketched_rows_are_the_sketches_of_the_gradients():
    torch.manual_seed(0)
    record = of_torch.record_of(episodes((4, 7, 2, 3)))
    policy = TorchPolicy(Network(), Network.score)
    estimator = estimators.reward_to_go(discount=0.9)
    given = estimator, estimator.init(jax.random.key(0), None)
    psi = np.asarray(estimator.weights(given[1], record).psi)
    each = of_torch.episode_gradients(policy, record, psi)
    sketch = CountSketch(sum(x[0].numel() for x in each.values()), 16, seed=4)
    rows = of_torch.sketched_gradients(policy, *given, record, sketch)
    expected = sketch({k: x.numpy() for k, x in each.items()})
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
    found = of_torch.gradient_noise(policy, *given, record, sketch=sketch)
    again = diagnostics.noise_of_gradients(rows, sketch=sketch)
    np.testing.assert_allclose(found.total.variance.high, again.total.variance.high, rtol=1e-4)


def test_a_module_s_own_values_bootstrap_and_are_subtracted():
    torch.manual_seed(0)
    module, given = Network(), episodes()

    def values(module, observations):
        return module.value(module.body(observations["x"]))

    policy, record = TorchPolicy(module, Network.score, values), of_torch.record_of(given)
    estimator = estimators.gae(discount=0.9, gae_lambda=0.8, critic=ModuleValues())
    psi = of_torch.Stream(policy, {"": (estimator, ((), ()))}).weights(record)[0]
    for i, episode in enumerate(given):
        seen = np.concatenate([episode.observations["x"], episode.last_observation["x"][None]])
        with torch.no_grad():
            v = values(module, {"x": torch.as_tensor(seen)})[:, 0].numpy().astype(np.float64)
        v[-1] *= not episode.terminated
        residuals = episode.rewards + 0.9 * v[1:] - v[:-1]
        advantage, n = 0.0, len(residuals)
        for t in reversed(range(n)):
            advantage = residuals[t] + 0.72 * advantage
            assert psi[t, i] == pytest.approx(advantage, rel=1e-4, abs=1e-5)


def test_refusals():
    torch.manual_seed(0)
    module, record = Network(), of_torch.record_of(episodes())
    estimator = estimators.reward_to_go()
    given = estimator, estimator.init(jax.random.key(0), None)
    with pytest.raises(UserError, match=r"needs a torch\.nn\.Module, got"):
        of_torch.gradient_noise(TorchPolicy(lambda x: x, Network.score), *given, record)
    with pytest.raises(UserError, match=r"one number a step.*shape \[\] for T = 30"):
        wrong = TorchPolicy(module, lambda m, x, a: Network.score(m, x, a).sum())
        of_torch.gradient_noise(wrong, *given, record)
    with pytest.raises(UserError, match="depend on no parameter"):
        wrong = TorchPolicy(module, lambda m, x, a: Network.score(m, x, a).detach())
        of_torch.gradient_noise(wrong, *given, record)
    with pytest.raises(UserError, match=r"Give TorchPolicy\(vectorised=False\)"):

        def looks(m, x, a):
            return Network.score(m, x, a) * (2.0 if x["x"].sum().item() > 0 else 1.0)

        of_torch.gradient_noise(TorchPolicy(module, looks), *given, record)
    with pytest.raises(UserError, match="this one has memory"):
        remembers = TorchPolicy(Recurrent(), Recurrent.score, memory=True)
        of_torch.decompose_variance(remembers, *given, record)
    with pytest.raises(UserError, match="the policy has none"):
        reads = estimators.gae(critic=ModuleValues())
        of_torch.gradient_noise(TorchPolicy(module, Network.score), reads, ((), ()), record)
    with pytest.raises(UserError, match="at least one; got 2 rewards"):
        of_torch.record_of([Episode(np.ones((3, 1)), np.ones(2), np.ones(2))])
    with pytest.raises(UserError, match="segments of"):
        segments = replace(record, whole_episodes=False)
        of_torch.gradient_noise(TorchPolicy(module, Network.score), *given, segments)
    with pytest.raises(UserError, match="got group_size 2"):
        grouped = replace(record, group_size=2)
        of_torch.compare_estimators(
            TorchPolicy(module, Network.score),
            {"ours": given},
            grouped,
            batch_episodes=2,
            reference="ours",
        )
