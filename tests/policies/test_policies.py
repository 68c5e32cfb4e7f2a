import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad import baselines, distributions
from policygrad.core.errors import UnsupportedSpaceError
from policygrad.core.modules import split
from policygrad.policies.agent import Agent
from policygrad.policies.normaliser import ObservationNormaliser
from policygrad.policies.space_policy import action_parameters, network_policy
from policygrad.spaces import ObservationEncoder, action_space_of, space_of
from tests.spaces.test_spaces import NESTED
from tests.spaces.test_spaces import SPACES as OBSERVATIONS

KEY = jax.random.key(0)
BOX = spaces.Box(-1.0, 1.0, (2,))
ACTIONS = {
    "discrete": (spaces.Discrete(3, start=-1), distributions.Categorical),
    "multidiscrete": (spaces.MultiDiscrete([2, 3]), distributions.MultiCategorical),
    "multidiscrete matrix": (
        spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 0], [0, -1]]),
        distributions.MultiCategorical,
    ),
    "multibinary": (spaces.MultiBinary([2, 2]), distributions.Bernoulli),
    "multibinary vector": (spaces.MultiBinary(3), distributions.Bernoulli),
    "box": (spaces.Box(-2.0, 2.0, (2,)), distributions.DiagonalGaussian),
    "box matrix": (spaces.Box(0.0, 5.0, (2, 2)), distributions.DiagonalGaussian),
    "box of one number": (spaces.Box(0.0, 5.0, ()), distributions.DiagonalGaussian),
    "box without bounds": (spaces.Box(-np.inf, np.inf, (1,)), distributions.DiagonalGaussian),
    "box with a bound each": (
        spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 2]), dtype=np.float64),
        distributions.DiagonalGaussian,
    ),
}
every_action_space = pytest.mark.parametrize(("space", "kind"), ACTIONS.values(), ids=ACTIONS)


@every_action_space
def test_action_space_gets_its_distribution(space, kind):
    policy = network_policy(KEY, BOX, space, hidden=(8,))
    distribution = policy(jnp.zeros(2))
    assert type(distribution) is kind
    action = distribution.sample(KEY)
    assert jnp.shape(distribution.log_prob(action)) == ()
    assert jnp.isfinite(distribution.log_prob(action))
    assert jnp.shape(distribution.entropy()) == ()
    assert policy.network.weights[-1].shape[0] == action_parameters(space)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (0.0, 5.0), (-np.inf, 2.0)])
def test_policy_scores_what_the_environment_sees(low, high):
    """Actions that the environment clips to one and the same have one probability."""
    space = spaces.Box(low, high, (1,))
    policy = network_policy(KEY, BOX, space, hidden=(8,), clipped=True)
    distribution = policy(jnp.zeros(2))
    assert type(distribution) is distributions.ClippedGaussian
    raw = jnp.linspace(-4.0, 4.0, 81)
    seen = np.array([action_space_of(space).to_environment(np.asarray(x)[None])[0] for x in raw])
    log_probs = np.array([distribution.log_prob(x[None]) for x in raw])
    for bound in (low, high):
        at = np.isclose(seen, bound)
        assert (at.sum() > 5) == np.isfinite(bound)
        np.testing.assert_allclose(log_probs[at], log_probs[at].mean() if at.any() else 0.0)
    inside = ~np.isclose(seen, low) & ~np.isclose(seen, high)
    gaussian = distributions.DiagonalGaussian(distribution.mean, distribution.log_std)
    expected = [gaussian.log_prob(x[None]) for x in raw]
    np.testing.assert_allclose(log_probs[inside], np.array(expected)[inside], rtol=1e-5)


def test_bounds_that_are_one_number_change_nothing():
    space = spaces.Box(np.float32([1.0, -1.0]), np.float32([1.0, 1.0]))
    distribution = network_policy(KEY, BOX, space, hidden=(8,), clipped=True)(jnp.zeros(2))
    np.testing.assert_array_equal(distribution.low, [-np.inf, -1])
    np.testing.assert_array_equal(distribution.high, [np.inf, 1])


@every_action_space
def test_agent_acts_inside_the_space(space, kind):
    agent = Agent(network_policy(KEY, BOX, space, hidden=(8,), log_std=1.5), BOX, space)
    for i in range(25):
        observation = np.random.default_rng(i).normal(size=2).astype(np.float32)
        for key in (None, jax.random.key(i)):
            action = agent.act(observation, key)
            assert space.contains(np.asarray(action, getattr(action, "dtype", None))), action
    assert type(agent(observation)) is kind


HALF = spaces.Box(np.array([-np.inf, 0]), np.inf, (2,), np.float64)


@pytest.mark.parametrize(
    "space",
    [
        HALF,
        spaces.Box(-np.inf, np.inf, (1,)),
        spaces.Dict(which=spaces.Discrete(2), far=HALF),
    ],
    ids=["one bound of four", "none", "a part"],
)
def test_actions_without_bounds_are_not_squashed(space):
    """They would be kept between −1 and 1, whatever the Box says."""
    with pytest.raises(UnsupportedSpaceError, match="leave --tanh-gaussian out, or give"):
        network_policy(KEY, BOX, space, squash=True)
    network_policy(KEY, BOX, space, clipped=True)


@pytest.mark.parametrize(
    "space", [spaces.Box(-2.0, 2.0, (2,)), spaces.Box(0.5, 3.0, (1,), np.float64)], ids=str
)
def test_squashed_agent_acts_inside_the_space(space):
    policy = network_policy(KEY, BOX, space, hidden=(8,), squash=True, log_std=2.0)
    agent = Agent(policy, BOX, space)
    assert type(agent(np.zeros(2))) is distributions.TanhGaussian
    for i in range(25):
        assert space.contains(agent.act(np.zeros(2), jax.random.key(i)))


@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_every_observation_space_is_read(space):
    agent = Agent(
        network_policy(KEY, space, spaces.Discrete(2), hidden=(8,)), space, spaces.Discrete(2)
    )
    space.seed(0)
    for _ in range(2):
        assert agent.act(space.sample()) in (0, 1)


def test_policy_starts_near_uniform():
    policy = network_policy(KEY, BOX, spaces.Discrete(4))
    for observation in (np.zeros(2), np.array([9.0, -9.0])):
        probabilities = jax.nn.softmax(policy(observation).logits)
        np.testing.assert_allclose(probabilities, 0.25, atol=0.03)


def test_gaussian_starts_in_the_middle_with_the_std_asked_for():
    policy = network_policy(KEY, BOX, spaces.Box(-1.0, 1.0, (2,)), log_std=-0.7)
    distribution = policy(np.zeros(2))
    np.testing.assert_allclose(distribution.mode(), 0, atol=0.05)
    np.testing.assert_allclose(policy.log_std, -0.7)


@pytest.mark.parametrize(("count", "together"), [(1, np.exp(-0.5)), (3, 3 * np.exp(-0.5)), (8, 2)])
def test_many_actions_share_the_noise_of_one_range(count, together):
    policy = network_policy(KEY, BOX, spaces.Box(-1.0, 1.0, (count,)), log_std="shared")
    np.testing.assert_allclose(np.sum(np.exp(policy.log_std)), together, rtol=1e-6)
    assert policy.log_std.shape == (count,)


def test_mask_of_the_observation_forbids_actions():
    space = spaces.Dict({"x": BOX, "action_mask": spaces.MultiBinary(3)})
    agent = Agent(network_policy(KEY, space, spaces.Discrete(3)), space, spaces.Discrete(3))
    observation = {"x": np.zeros(2, np.float32), "action_mask": np.array([0, 1, 0], np.int8)}
    assert {int(agent.act(observation, jax.random.key(i))) for i in range(20)} == {1}
    assert agent.act(observation) == 1
    assert float(agent(observation).entropy()) == pytest.approx(0, abs=1e-6)


def test_an_observation_that_is_a_mask_alone_is_read():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3)})
    agent = Agent(network_policy(KEY, space, spaces.Discrete(3)), space, spaces.Discrete(3))
    assert agent.act({"action_mask": np.array([0, 0, 1], np.int8)}) == 2
    critic = baselines.value_network().bind(ObservationEncoder(space_of(space)))
    observation = space_of(space).example()
    assert critic.value(critic.init(KEY, observation), observation, 0) == 0


def test_statistics_are_carried_and_not_differentiated():
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,))
    differentiated, rest = split(policy)
    assert differentiated.normaliser.statistics.value.mean is None
    assert rest.normaliser.statistics.value.mean is not None
    assert rest.network.weights == (None, None)


def test_observations_are_passed_on_as_they_are_where_that_is_asked_for():
    policy = network_policy(KEY, BOX, spaces.Discrete(2), normalise_observations=False)
    assert not policy.normaliser.normalises
    seen = policy.normaliser.update(jnp.full((3, 1, 2), 50.0), jnp.ones((3, 1), bool))
    np.testing.assert_array_equal(seen(jnp.array([50.0, 2.0])), [50.0, 2.0])


def test_seed_decides_the_weights():
    one, two, other = (
        network_policy(jax.random.key(i), NESTED, spaces.Discrete(2), hidden=(8,))
        for i in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not np.array_equal(one.network.weights[0], other.network.weights[0])


@pytest.mark.parametrize(
    ("observations", "actions"),
    [(spaces.Text(3), spaces.Discrete(2)), (BOX, spaces.Box(0, 3, (2,), np.int32))],
    ids=["observations", "actions"],
)
def test_other_spaces_are_refused(observations, actions):
    with pytest.raises(UnsupportedSpaceError, match="supported are"):
        network_policy(KEY, observations, actions)


# ----- a user's own


class Custom(eqx.Module):
    """Fifteen lines are enough; the activation of `eqx.nn.MLP` is a leaf that is no array."""

    normaliser: ObservationNormaliser
    network: eqx.nn.MLP

    def __init__(self, key):
        self.normaliser = ObservationNormaliser.of(np.zeros(2, np.float32))
        self.network = eqx.nn.MLP(2, 2, 8, 1, activation=jax.nn.swish, key=key)

    def __call__(self, observation):
        return distributions.Categorical(self.network(self.normaliser(observation)))


def test_custom_policy_is_split_and_acts():
    policy = Custom(KEY)
    assert any(callable(leaf) for leaf in jax.tree.leaves(policy))
    differentiated, _ = split(policy)
    assert all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(differentiated))
    assert len(jax.tree.leaves(differentiated)) == 4
    agent = Agent(policy, BOX, spaces.Discrete(2))
    assert agent.act(np.zeros(2, np.float32), KEY) in (0, 1)


def test_plain_function_is_a_policy():
    def policy(observation):
        return distributions.Categorical(jnp.array([0.0, 5.0]))

    assert Agent(policy, BOX, spaces.Discrete(2)).act(np.zeros(2)) == 1


class Counting(eqx.Module):
    """Moves its favourite action on with every step of an episode."""

    logits: jax.Array

    def initial_carry(self):
        return jnp.int32(0)

    def __call__(self, observation, carry):
        return distributions.Categorical(jnp.roll(self.logits, carry)), carry + 1


def test_agent_with_memory_remembers_what_it_acted_on_since_reset():
    space = spaces.Discrete(3)
    agent = Agent(Counting(jnp.array([5.0, 0.0, 0.0])), BOX, space)
    for _ in range(2):
        actions = []
        for step in range(4):
            assert int(agent(np.zeros(2)).mode()) == step % 3  # looking changes nothing
            actions.append(int(agent.act(np.zeros(2), KEY if step == 0 else None)))
        assert actions[1:] == [1, 2, 0]
        agent.reset()


def test_agents_of_equal_policies_share_what_was_compiled():
    compiled = []

    def policy(observation):
        compiled.append(1)
        return distributions.Categorical(jnp.array([0.0, 5.0]))

    for _ in range(3):
        assert Agent(policy, BOX, spaces.Discrete(2)).act(np.zeros(2)) == 1
    assert len(compiled) == 1
