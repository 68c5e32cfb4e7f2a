"""From settings to values."""

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, distributions, estimators
from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.gradients.baselines.network import ValueNetwork
from policygrad.gradients.baselines.optimal import VarianceOptimal
from policygrad.policies.architectures import FullyConnected
from policygrad.policies.space_policy import network_policy
from policygrad.training import building
from policygrad.training.built_in import OPTIMISERS
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve


def resolved(config):
    """What every setting of a configuration is."""
    return resolve(config, Given())[0]


def build_estimator(config):
    return building.build_estimator(resolved(config), Given(), None)


@pytest.mark.parametrize("estimator", ["gae", "td", "n-step"])
def test_variance_optimal_on_segments_is_a_weighted_regression_beside_a_critic(estimator):
    config = TrainConfig(estimator=estimator, baseline="variance-optimal")
    built = build_estimator(config)
    assert isinstance(built.baseline, VarianceOptimal)
    assert not built.baseline.cross_terms
    assert isinstance(built.critic, ValueNetwork)
    assert not built.whole_episodes


@pytest.mark.parametrize("estimator", ["reward-to-go", "total-return", "reward-indexed"])
@pytest.mark.parametrize("episodes", [8, "adaptive"])
def test_variance_optimal_on_episodes_counts_cross_terms(estimator, episodes):
    settings = {"estimator": estimator, "baseline": "variance-optimal"}
    built = build_estimator(TrainConfig(**settings, batch_episodes=episodes))
    assert isinstance(built.baseline, VarianceOptimal)
    assert built.baseline.cross_terms
    assert built.critic is None
    with pytest.raises(UserError, match="--baseline variance-optimal needs whole episodes"):
        resolve(TrainConfig(**settings), Given())


GIVEN = {
    "constant": estimators.total_return(baseline=baselines.constant(20.0)),
    "table": estimators.gae(critic=baselines.table([20.0, 10.0])),
}


@pytest.mark.parametrize("estimator", GIVEN.values(), ids=GIVEN)
def test_numbers_in_units_of_the_reward_are_refused_where_rewards_are_scaled(estimator):
    box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def build(**settings: bool):
        given = Given(estimator=estimator)
        return building.build_learner(
            resolve(TrainConfig(batch_episodes=8, **settings), given)[0], given, box, None
        )

    with pytest.raises(UserError, match=r"in units of the reward.*pass scale_rewards=False"):
        build()
    assert build(scale_rewards=False).scale_rewards is False


def test_log_std_steps_are_a_multiple_of_the_others():
    box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    parameters, _ = split(network_policy(jax.random.key(0), box, box))
    gradient = jax.tree.map(jnp.ones_like, parameters)

    def steps(name: str, **settings: float):
        optimiser = OPTIMISERS[name](**settings).build()
        return optimiser.update(gradient, optimiser.init(parameters))[0]

    for name, more in (("adam", {"epsilon": 1e-8}), ("rmsprop", {})):
        plain, far = (steps(name, log_std_step=times, **more) for times in (1.0, 10.0))
        np.testing.assert_allclose(far.log_std, 10 * plain.log_std, rtol=1e-6)
        assert eqx.tree_equal(far.network, plain.network)
    assert eqx.tree_equal(steps("sgd"), gradient)


def test_vanilla_alone_steps_log_std_further():
    for algorithm, times in (("vanilla", 10), ("natural", None), ("trpo", None), ("ppo", 1)):
        assert resolved(TrainConfig(algorithm=algorithm)).config.log_std_step == times
    assert resolved(TrainConfig(log_std_step=3.0)).config.log_std_step == 3
    assert resolved(TrainConfig(log_std_step=3.0)).algorithm.optimiser.log_std_step == 3


def test_natural_and_trpo_look_further_ahead():
    for algorithm, ahead in (("vanilla", 100), ("natural", 200), ("trpo", 200), ("ppo", 100)):
        built = build_estimator(TrainConfig(algorithm=algorithm))
        assert 1 / (1 - built.discount) == pytest.approx(ahead)
    assert build_estimator(TrainConfig(algorithm="natural", discount=0.9)).discount == 0.9


def test_natural_steps_score_what_bounds_leave():
    box = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    for settings, kind in (
        ({"algorithm": "vanilla"}, distributions.DiagonalGaussian),
        ({"algorithm": "ppo"}, distributions.DiagonalGaussian),
        ({"algorithm": "natural"}, distributions.ClippedGaussian),
        ({"algorithm": "trpo"}, distributions.ClippedGaussian),
        ({"algorithm": "natural", "clipped_gaussian": False}, distributions.DiagonalGaussian),
        ({"clipped_gaussian": True}, distributions.ClippedGaussian),
        ({"algorithm": "natural", "tanh_gaussian": True}, distributions.TanhGaussian),
    ):
        config = TrainConfig(**settings)
        assert TrainConfig.from_json(config.to_json(), "here") == config
        found = resolved(config)
        assert TrainConfig.from_json(found.config.to_json(), "here") == found.config
        policy = building.build_policy(found, Given(), jax.random.key(0), box, box)
        assert type(policy(jnp.zeros(3))) is kind, settings
    with pytest.raises(UserError, match="exclude each other"):
        resolved(TrainConfig(tanh_gaussian=True, clipped_gaussian=True))


def layers(settings):
    """The sizes of a network's layers: of the policy, and of the critic."""
    found, box = resolved(TrainConfig(**settings)), gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    key = jax.random.key(0)
    policy = building.build_policy(found, Given(), key, box, box)
    critic = building.build_learner(found, Given(), box, None).estimator.critic
    networks = policy.network, critic.init(key, jnp.zeros(3)).network  # pyright: ignore
    return tuple(tuple(len(bias) for bias in network.biases) for network in networks)


def test_the_critic_has_the_layers_of_the_policy_or_its_own():
    assert layers({"hidden": (5, 4)}) == ((5, 4, 3), (5, 4, 1))
    assert layers({"hidden": (5, 4), "critic_hidden": (7,)}) == ((5, 4, 3), (7, 1))
    assert layers({"critic_hidden": ()}) == ((64, 64, 3), (1,))


def test_the_critic_alone_is_normalised_layer_by_layer():
    found = resolved(TrainConfig(critic_layer_norm=True, critic_hidden=(7,)))
    assert building.architecture(found, Given()) == FullyConnected()
    critic = building.critic_architecture(found, Given())
    assert critic == FullyConnected((7,), layer_norm=True)
    network = critic.build(jax.random.key(0), np.zeros(3), 1)
    assert [gain.shape for gain in network.gains] == [(7,)]  # pyright: ignore
    impala = resolved(TrainConfig(critic_layer_norm=True, network="impala"))
    with pytest.raises(
        UserError, match="--critic-layer-norm normalises the layers of a fully conn"
    ):
        building.critic_architecture(impala, Given())


@pytest.mark.parametrize(
    "settings", [{}, {"baseline": "value-classifier"}, {"baseline": "constant"}, {"memory": "gru"}]
)
def test_policy_and_critic_read_observations_up_to_the_same_bound(settings):
    box, key = gymnasium.spaces.Box(-1, 1, (3,), np.float32), jax.random.key(0)
    for bound in (10.0, 2.5):
        found = resolved(TrainConfig(clip_observations=bound, **settings))
        policy = building.build_policy(found, Given(), key, box, box)
        critic = building.build_learner(found, Given(), box, None).estimator.critic
        state = critic.init(key, jnp.zeros(3))  # pyright: ignore
        normaliser = getattr(state, "fitted", state).normaliser
        for one in (policy.normaliser, normaliser):  # pyright: ignore
            np.testing.assert_array_equal(one(jnp.array([99.0, -99.0, 1.0])), [bound, -bound, 1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shared_trunk": True}, "--critic-hidden is read by a critic with a network of its own"),
        ({"baseline": "linear-features"}, "--critic-hidden is read by --baseline value-network"),
        ({"critic_hidden": (0,)}, "--critic-hidden must be a whole number at least 1"),
    ],
)
def test_sizes_of_a_critic_that_has_no_network_of_its_own_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        resolved(TrainConfig(**{"critic_hidden": (8,), **settings}))
