"""Networks for pictures: shapes, channels, what is refused, and what is chosen by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from policygrad.networks import (
    Convolutional,
    FullyConnected,
    Impala,
    impala,
    minatar,
    nature,
    network_policy,
    small,
)

import policygrad
from policygrad.core.errors import UserError
from policygrad.policies.architectures import describe, restore
from policygrad.training import built_in

KEY = jax.random.key(0)
TWO = spaces.Discrete(2)


def picture(shape=(84, 84, 4), dtype=np.uint8, high=255):
    return spaces.Box(0, high, shape, dtype)


def parameters(network):
    return sum(np.size(x) for x in jax.tree.leaves(network))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        # by hand: filters·(side²·channels + 1), then (inputs + 1)·units of each dense layer
        (nature(), 32 * 257 + 64 * 513 + 64 * 577 + 3137 * 512 + 513 * 2),
        (small(), 16 * 257 + 32 * 257 + 2593 * 256 + 257 * 2),
    ],
    ids=["nature", "small"],
)
def test_known_networks_have_the_sizes_of_their_papers(architecture, weights):
    network = architecture.build(KEY, np.zeros((84, 84, 4), np.float32), 2)
    assert parameters(network) == weights
    assert architecture.build(KEY, np.zeros((4, 84, 84), np.float32), 2).channels == ("first",)


def test_impala_reads_any_size_and_halves_it_three_times():
    network = impala().build(KEY, np.zeros((21, 9, 3), np.float32), 5)
    assert network.convolutions[0](jnp.zeros((21, 9, 3))).shape == (3, 2, 32)
    assert network(jnp.ones((21, 9, 3))).shape == (5,)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [nature(), small(), impala(), minatar()], ids=str)
def test_channels_first_and_last_are_the_same_network(architecture):
    pixels = np.random.default_rng(0).random((40, 44, 3), np.float32)
    last = architecture.build(KEY, pixels, 3)
    first = architecture.build(KEY, np.moveaxis(pixels, 2, 0), 3)
    np.testing.assert_array_equal(last(pixels), first(np.moveaxis(pixels, 2, 0)))


def test_every_picture_has_convolutions_of_its_own_and_numbers_stand_beside():
    space = spaces.Dict({
        "front": picture((36, 36, 3)),
        "joints": spaces.Box(-1, 1, (5,)),
        "back": picture((1, 40, 36)),
    })  # fmt: skip
    policy = network_policy(KEY, space, TWO)
    assert policy.architecture == small()
    network = policy.network
    assert network.channels == ("first", "last")
    inputs = network.dense.weights[0].shape[1]
    both = zip(network.convolutions, ((40, 36, 1), (36, 36, 3)), strict=True)
    sizes = [np.prod(jax.eval_shape(c, np.zeros(s, np.float32)).shape) for c, s in both]
    assert inputs == sum(sizes) + 5
    statistics = policy.normaliser.statistics.value
    assert statistics.mean["joints"].shape == (5,)
    assert statistics.mean["front"] is statistics.mean["back"] is None
    assert policy(space.sample()).logits.shape == (2,)


def test_a_policy_reads_bytes_as_their_share_of_255():
    space = picture((12, 12, 3))
    policy = network_policy(KEY, space, TWO, network=minatar())
    pixels = space.sample()
    outputs = policy.network(pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(policy(pixels).logits, outputs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "chosen"),
    [
        ((84, 84, 4), small()),
        ((36, 50, 3), small()),
        ((4, 20, 20), small()),
        ((10, 10, 4), minatar()),
        ((8, 8, 1), minatar()),
        ((7, 9, 2), FullyConnected()),
    ],
    ids=str,
)
def test_a_network_that_reads_the_picture_is_chosen(shape, chosen):
    assert network_policy(KEY, picture(shape), TWO).architecture == chosen


@pytest.mark.parametrize(
    ("space", "network", "message"),
    [
        (picture((10, 10, 4)), nature(), r"10×10 pixels is too small .* need 36×36"),
        (picture((84, 19, 3)), small(), r"84×19 pixels is too small .* need 20×20"),
        (picture((40, 40, 40)), None, r"\[40, 40, 40\] does not tell .* --channels"),
        (picture((30, 20, 40)), impala(), r"\[30, 20, 40\] does not tell .* --channels"),
        (spaces.Box(-1, 1, (3,)), small(), r"reads pictures.*shapes \[\[3\]\]"),
        (spaces.Discrete(3), nature(), r"reads pictures.*--network fully-connected"),
    ],
    ids=["small", "narrow", "cube", "slab", "numbers", "choices"],
)
def test_what_a_network_cannot_read_is_refused(space, network, message):
    with pytest.raises(UserError, match=message):
        network_policy(KEY, space, TWO, network=network)


def test_channels_that_are_named_are_taken():
    cube = picture((40, 40, 40))
    policy = network_policy(KEY, cube, TWO, network=Convolutional(channels="first"))
    assert policy.network.channels == ("first",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Convolutional(layers=()), "layers must be"),
        (lambda: Convolutional(layers=((16, 8),)), "layers must be"),
        (lambda: Convolutional(layers=((16, 0, 1),)), "layers must be"),
        (lambda: Convolutional(hidden=(0,)), "hidden must be a whole number"),
        (lambda: Convolutional(channels="middle"), "channels must be"),
        (lambda: Impala(filters=(0,)), "filters must be a whole number"),
    ],
    ids=["none", "two numbers", "no side", "hidden", "channels", "filters"],
)
def test_architectures_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "architecture",
    [
        nature(),
        small(),
        minatar(),
        impala(),
        Convolutional(layers=((4, 3, 2),), hidden=(8, 8)),
        Impala(filters=(3,), channels="first"),
    ],
    ids=str,
)
def test_architectures_are_restored_from_their_description(architecture):
    assert restore(describe(architecture), None, "file") == architecture


@pytest.mark.parametrize("name", built_in.NETWORKS)
def test_networks_have_names(name):
    made = built_in.network_named(name, (32, 16))
    assert tuple(made.hidden) == (32, 16)
    settings = {"network": name, "hidden": (32, 16), "channels": None}
    assert built_in.as_settings(made) == settings
    assert built_in.as_settings(Convolutional(layers=((4, 3, 2),))) is None


def test_channels_of_a_network_without_pictures_are_refused():
    with pytest.raises(UserError, match="--channels first is read by networks for pictures"):
        policygrad.train("CartPole-v1", channels="first", total_steps=64)


@pytest.mark.slow
def test_gradient_of_a_policy_of_pictures_is_the_sum_over_its_steps():
    space = picture((12, 12, 3))
    policy = network_policy(
        KEY, space, TWO, network=Convolutional(layers=((4, 5, 2), (3, 2, 1)), hidden=(8,))
    )
    pixels = np.stack([space.sample() for _ in range(6)])

    def total(policy):
        return jnp.sum(jax.vmap(lambda x: policy(x).log_prob(1))(pixels))

    whole = jax.grad(total, allow_int=True)(policy).network
    each = [
        jax.grad(lambda p, x=x: p(x).log_prob(1), allow_int=True)(policy).network for x in pixels
    ]
    summed = jax.tree.map(lambda *x: sum(x), *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), whole, summed)
