"""Which parameters are differentiated, and modules that are not one policy."""

import jax
import numpy as np
import pytest

from policygrad import estimators
from policygrad import torch as of_torch
from policygrad.core.errors import UserError
from policygrad.torch import Episode, ModuleValues, TorchPolicy

torch = pytest.importorskip("torch")
nn = torch.nn

ESTIMATOR = estimators.reward_to_go(discount=1.0)
STATE = ESTIMATOR.init(jax.random.key(0), None)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def episodes(*lengths, low=-1.0):
    rng = np.random.default_rng(0)
    return [
        Episode(
            rng.uniform(low, 1, size=(n, 4)).astype(np.float32),
            rng.integers(3, size=n),
            rng.normal(size=n).astype(np.float32),
        )
        for n in lengths
    ]


def log_probs(module, observations, actions):
    return torch.distributions.Categorical(logits=module(observations)).log_prob(actions)


def noise(module, given, score=log_probs, estimator=ESTIMATOR, **options):
    record = of_torch.record_of(given) if isinstance(given[0], Episode) else map(
        of_torch.record_of, given
    )  # fmt: skip
    policy = TorchPolicy(module, score, **options)
    return of_torch.gradient_noise(policy, estimator, STATE, record)


class Elman(nn.Module):
    """A recurrent network, whose memory acts from the second step on."""

    def __init__(self):
        super().__init__()
        self.seen, self.memory = nn.Linear(4, 8), nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, observations):
        states = [torch.tanh(self.seen(observations[0]))]
        for x in observations[1:]:
            states.append(torch.tanh(self.seen(x) + self.memory(states[-1])))
        return self.head(torch.stack(states))


class Previous(nn.Module):
    """The observation before this one is added to what is seen."""

    def __init__(self):
        super().__init__()
        self.seen, self.before = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, observations):
        now = self.seen(observations)
        return torch.cat([now[:1], now[1:] + self.before(observations[:-1])])


class First(nn.Module):
    """The first step has a layer of its own, which is all there is in an episode of one step."""

    def __init__(self):
        super().__init__()
        self.only, self.several = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, observations):
        return (self.only if len(observations) == 1 else self.several)(observations)


class Recurrent(nn.Module):
    """A GRU of PyTorch's, through which vmap does not go."""

    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, observations):
        return self.head(self.memory(observations[None])[0][0])


@pytest.mark.parametrize("vectorised", [True, False])
def test_parameters_that_do_not_act_in_every_episode_are_differentiated(vectorised):
    for kind in (Elman, Previous) if vectorised else (Elman, Previous, First, Recurrent):
        check_against_a_loop(kind(), episodes(4, 1, 6, 3), vectorised)


def check_against_a_loop(module, given, vectorised):
    rows = []
    for x in given:
        module.zero_grad(set_to_none=True)
        seen, actions = torch.as_tensor(x.observations), torch.as_tensor(x.actions)
        to_go = torch.as_tensor(x.rewards[::-1].cumsum()[::-1].copy())
        (log_probs(module, seen, actions) * to_go).sum().backward()
        rows.append([p.detach() * 0 if p.grad is None else p.grad for p in module.parameters()])
    expected = [torch.stack(x).flatten(1).numpy() for x in zip(*rows, strict=True)]
    found = noise(module, given, memory=True, vectorised=vectorised)
    names = [name for name, _ in module.named_parameters()]
    assert list(found.parts) == names
    for name, x in zip(names, expected, strict=True):
        variance = x.astype(float).var(axis=0, ddof=1).sum()
        assert found.parts[name].variance.value == pytest.approx(variance, rel=1e-4)


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_parameter_that_acts_in_a_later_record_alone_is_no_secret(vectorised):
    short, long = episodes(1, 1), episodes(3, 2)
    with pytest.raises(UserError, match=r"those of the first record do not depend on: memory\.wei"):
        noise(Elman(), [short, long], memory=True, vectorised=vectorised)
    found = noise(Elman(), [long, short], memory=True, vectorised=vectorised)
    assert "memory.weight" in found.parts


def test_without_vmap_what_acts_may_depend_on_what_is_seen():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.usual, self.rare = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, observations):
            return (self.rare if observations.min() >= 0 else self.usual)(observations)

    usual, rare = episodes(5, 5), episodes(2, 2, low=0.0)
    assert set(noise(Branches(), usual + rare, vectorised=False).parts) >= {"usual.weight"}
    assert "rare.weight" in noise(Branches(), usual + rare, vectorised=False).parts
    with pytest.raises(UserError, match=r"later episode.*rare\.bias, rare\.weight.*larger"):
        noise(Branches(), [usual, rare], vectorised=False)


def test_what_depends_on_the_length_of_an_episode_is_not_padded():
    with pytest.raises(UserError, match=r"later steps or on their number.*vectorised=False"):
        noise(First(), episodes(4, 1, 6, 3), memory=True)

    class Centred(nn.Linear):
        def forward(self, observations):
            return super().forward(observations - observations.mean(dim=0))

    with pytest.raises(UserError, match="later steps or on their number"):
        noise(Centred(4, 3), episodes(4, 6), memory=True)


class Dropping(nn.Module):
    """A dropout that is no layer."""

    def forward(self, seen):
        return nn.functional.dropout(seen, 0.5, self.training)


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_module_that_changes_with_every_pass_is_refused(vectorised):
    of_layer = r"the layer 1 \({}\) is in training mode.*call module\.eval\(\)"
    check_refused(nn.Dropout(0.5), of_layer.format("Dropout"), vectorised)
    check_refused(nn.BatchNorm1d(8), of_layer.format("BatchNorm1d"), vectorised)
    check_refused(Dropping(), r"other numbers if it is called again.*module\.eval", vectorised)


def check_refused(layer, message, vectorised):
    module, given = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3)), episodes(4, 5, 6)
    before = {k: x.clone() for k, x in module.state_dict().items()}
    own = {"values": lambda m, x: m(x)[:, 0], "vectorised": vectorised}
    with pytest.raises(UserError, match=message):
        noise(module, given, **own)
    with pytest.raises(UserError, match=message):
        noise(module, given, estimator=estimators.gae(critic=ModuleValues()), **own)
    assert all(torch.equal(x, before[k]) for k, x in module.state_dict().items())
    assert noise(module.eval(), given, **own).total.variance.value > 0


def test_a_dropout_that_drops_nothing_may_train_and_one_within_a_memory_may_not():
    silent = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))
    assert noise(silent, episodes(4, 5)).total.variance.value > 0
    module = Recurrent()
    module.memory = nn.GRU(4, 8, num_layers=2, dropout=0.5, batch_first=True)
    with pytest.raises(UserError, match=r"the layer memory \(GRU\) is in training mode"):
        noise(module, episodes(4, 5), memory=True, vectorised=False)


def test_whatever_vmap_cannot_follow_names_the_way_out():
    with pytest.raises(UserError, match=r"broadcast shape.*Give TorchPolicy\(vectorised=False\)"):
        noise(Recurrent(), episodes(4, 5), memory=True)


def test_a_mistake_in_log_probs_is_raised_as_it_is():
    def mistaken(module, observations, actions):
        return log_probs(module, observations[:, :3], actions)

    for vectorised in (True, False):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            noise(nn.Linear(4, 3), episodes(4, 5), mistaken, vectorised=vectorised)


def test_numbers_of_numpy_are_no_log_probs():
    def of_numpy(module, observations, actions):
        return log_probs(module, observations, actions).detach().numpy()

    with pytest.raises(UserError, match=r"must return a tensor of PyTorch.*got numpy\.ndarray"):
        noise(nn.Linear(4, 3), episodes(4, 5), of_numpy)


def test_an_estimator_that_bootstraps_needs_what_followed_a_cut():
    module, given = nn.Linear(4, 3), episodes(4, 5, 6)
    given[1] = given[1]._replace(terminated=False)
    own = {"values": lambda m, x: m(x)[:, 0]}
    gae = estimators.gae(critic=ModuleValues())
    message = r"episode {} was cut before it terminated.*last_observation=\.\.\."
    with pytest.raises(UserError, match=message.format(1)):
        noise(module, given, estimator=gae, **own)
    with pytest.raises(UserError, match=message.format(4)):
        noise(module, [episodes(2, 2, 2), given], estimator=gae, **own)
    policy = TorchPolicy(module, log_probs, **own)
    candidates = {"to go": (ESTIMATOR, STATE), "gae": (gae, ((), ()))}
    with pytest.raises(UserError, match=r"the estimator 'gae' adds the value"):
        of_torch.compare_estimators(
            policy, candidates, of_torch.record_of(given), batch_episodes=2, reference="to go"
        )
    assert noise(module, given, **own).total.variance.value > 0  # reads no value
    given[1] = given[1]._replace(last_observation=np.ones(4, np.float32))
    assert noise(module, given, estimator=gae, **own).total.variance.value > 0


def permitted(lengths):
    """Episodes whose observations end with a mask of three actions."""
    rng, found = np.random.default_rng(1), []
    for each in episodes(*lengths):
        mask = rng.random((len(each.actions), 3)) < 0.5
        mask[np.arange(len(mask)), each.actions] = True
        seen = np.concatenate([each.observations, mask], axis=1).astype(np.float32)
        found.append(each._replace(observations=seen))
    return found


def masked_softmax(module, seen, actions):
    p = torch.softmax(module(seen[:, :4]), dim=1) * seen[:, 4:]
    return torch.log((p / p.sum(dim=1, keepdim=True)).gather(1, actions[:, None])[:, 0])


def masked_logits(module, seen, actions):
    logits = module(seen[:, :4]) + torch.log(seen[:, 4:])
    return torch.distributions.Categorical(logits=logits).log_prob(actions)


@pytest.mark.parametrize("score", [masked_softmax, masked_logits])
def test_a_mask_that_permits_nothing_is_not_made_up_behind_an_episode(score):
    module, given = nn.Linear(4, 3), permitted(range(2, 9))
    ours, theirs = (noise(module, given, score, vectorised=x) for x in (True, False))
    assert np.all(np.isfinite(theirs.mean))
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-4, atol=1e-5)
    for name in ("variance", "squared_norm"):
        x, y = getattr(ours.total, name), getattr(theirs.total, name)
        np.testing.assert_allclose([x.value, x.high], [y.value, y.high], rtol=1e-4)


def test_values_of_what_is_no_observation_are_not_read():
    def values(module, seen):
        return (seen[:, 4:] / seen[:, 4:].sum(dim=1, keepdim=True)).max(dim=1).values

    module, given = nn.Linear(4, 3), permitted(range(2, 9))
    gae = estimators.gae(critic=ModuleValues())
    ours, theirs = (
        noise(module, given, masked_logits, gae, values=values, vectorised=x) for x in (True, False)
    )
    assert np.all(np.isfinite(theirs.mean))
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-4, atol=1e-5)
