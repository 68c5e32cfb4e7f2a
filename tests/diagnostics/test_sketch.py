"""The count-sketch, against loops, and what it adds to intervals, against its spread over seeds."""

import numpy as np
import pytest

from benchmarks.sketch_calibration import NONE, Case, coverage
from policygrad import diagnostics
from policygrad.core.errors import UserError
from policygrad.diagnostics import CountSketch, Measured, sketch
from policygrad.diagnostics.sketch_error import EXACT, SketchError
from tests.slow import params

MASK = 2**64 - 1


def mixed(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def by_loop(gradient, width, seed):
    """The sketch of one gradient, parameter by parameter, in Python's whole numbers."""
    out = np.zeros(width)
    for i, x in enumerate(gradient):
        hashed = mixed(((i + 1) * 0x9E3779B97F4A7C15 + mixed(seed)) & MASK)
        bucket = ((hashed >> 33) * width) >> 31
        out[bucket] += x if hashed & 1 else -x
    return out


@pytest.mark.parametrize("block", [7, 64, 2**20])
def test_a_sketch_is_that_of_a_loop(monkeypatch, block):
    monkeypatch.setattr(sketch, "BLOCK", block)
    rows = np.random.default_rng(0).normal(size=(3, 300))
    ours = CountSketch(300, 20, seed=5)
    expected = np.stack([by_loop(x, 20, 5) for x in rows])
    np.testing.assert_allclose(ours(rows), expected, atol=1e-12)
    parts = {"a": rows[:, :100].reshape(3, 10, 10), "b": rows[:, 100:]}
    np.testing.assert_allclose(ours(parts), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_pytorch_gives_the_same_numbers(kind):
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(0).normal(size=(2, 5000)).astype(kind)
    ours = CountSketch(5000, 128, seed=3)
    parts = [torch.tensor(rows[:, :2000].reshape(2, 40, 50)), torch.tensor(rows[:, 2000:])]
    theirs = ours(parts)
    assert theirs.dtype == getattr(torch, kind)
    bound = 1e-5 if kind == "float32" else 1e-12
    np.testing.assert_allclose(theirs.numpy(), ours(rows), atol=bound)


def test_refusals():
    for wrong in ({"width": 4}, {"size": 0}, {"seed": -1}, {"width": 9.5}, {"size": True}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} of a sketch must be a whole"):
            CountSketch(**{"size": 100, "width": 20, **wrong})
    ours = CountSketch(100, 20)
    with pytest.raises(UserError, match="make it with size=99"):
        ours(np.ones((2, 99)))
    with pytest.raises(UserError, match="one row each in every part"):
        ours([np.ones((2, 50)), np.ones((3, 50))])
    rows = ours(np.random.default_rng(0).normal(size=(20, 100)))
    with pytest.raises(UserError, match="one row of width 21 an episode, got rows of 20"):
        diagnostics.noise_of_gradients(rows, sketch=CountSketch(100, 21))


# ---- the spread over seeds, of quantities of a known covariance Σ and mean G


SIZE, WIDTH, SEEDS = 600, 60, 1000


@pytest.fixture(scope="module")
def drawn():
    """quantity -> (exact, `[SEEDS]` the same after a sketch); no direction is a coordinate's."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(SIZE, 12)))[0]
    first, second = (turn * np.sqrt(s) for s in (0.6 ** np.arange(12), 0.9 ** np.arange(12)))
    g = turn @ (0.3 + rng.normal(size=12))
    b = g + turn @ rng.normal(size=12)
    across = turn @ rng.normal(size=12)
    across -= g * (across @ g) / (g @ g) * 0.8

    def quantities(first, second, g, b, across):
        v, w, n = np.sum(first**2), np.sum(second**2), g @ g
        return {
            "norm": n,
            "variance": v,
            "ratio": n / v,
            "variance ratio": v / w,
            "sine": 1 - (b @ g) ** 2 / (b @ b) / n,
            "cosine": across @ g / np.sqrt(across @ across * n),
            "along": np.sum((g @ first) ** 2) / n / v,
            "alike": np.sum((first.T @ first) ** 2) / v**2,
            "apart": np.sum((first @ first.T / v - second @ second.T / w) ** 2),
        }

    arrays = first, second, g, b, across
    exact = quantities(*arrays)
    rows = np.concatenate([first.T, second.T, [g], [b], [across]])
    found = {k: [] for k in exact}
    for seed in range(SEEDS):
        s = CountSketch(SIZE, WIDTH, seed)(rows)
        for k, x in quantities(s[:12].T, s[12:24].T, *s[24:]).items():
            found[k].append(x)
    return {k: (exact[k], np.array(x)) for k, x in found.items()}


def test_the_squares_of_lengths_are_unbiased(drawn):
    for k in ("norm", "variance"):
        exact, found = drawn[k]
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(SEEDS), k
    of_products, found = drawn["alike"]
    error = SketchError(WIDTH)
    corrected = np.array([error.concentration(x) for x in found])
    assert abs(corrected.mean() - of_products) < 0.1 * of_products


@pytest.mark.parametrize(
    "name", ["norm", "variance", "ratio", "variance ratio", "sine", "cosine", "along"]
)
def test_intervals_hold_the_error_of_the_sketch_and_little_more(drawn, name):
    # of 1,000 intervals at 95 %, fewer than 925 cover with probability 0.03 %
    exact, found = drawn[name]
    error, (c, _), (f, _) = SketchError(WIDTH), drawn["alike"], drawn["along"]
    # what the functions are given is of the sketched gradients
    alike = c + (1 + c) / WIDTH
    add = {
        "norm": error.squared_norm,
        "variance": lambda x: error.variance(x, alike),
        "ratio": lambda x: error.ratio(x, alike, f),
        "variance ratio": lambda x: error.variance_ratio(x, drawn["apart"][0]),
        "sine": error.squared_sine,
        "cosine": error.cosine,
        "along": lambda x: error.share_along(x, alike),
    }[name]
    share = np.mean([add(Measured(x, x, x)).covers(exact) for x in found])
    # of the share along G, only a bound of the error is known
    assert 0.925 <= share <= (1.0 if name == "along" else 0.995), share


def test_without_a_sketch_nothing_is_added():
    x = Measured(2.0, 1.0, 3.0)
    assert EXACT.squared_norm(x) is x
    assert EXACT.variance(x, 0.5) is x
    assert EXACT.ratio(x, 0.5, 0.2) is x
    assert EXACT.share_along(x, 0.5) is x
    assert EXACT.concentration(0.25) == 0.25
    assert EXACT.cosine(Measured(0.5, 0.25, 0.75)) == Measured(0.5, 0.25, 0.75)


def test_an_estimate_below_zero_stays_within_its_interval():
    found = SketchError(50).squared_norm(Measured(-0.1, 0.0, 0.4))
    assert (found.value, found.low) == (-0.1, 0.0)
    assert 0.4 < found.high < 0.8


def test_the_error_of_a_sketch_widens_every_interval():
    rng = np.random.default_rng(0)
    rows = 0.2 + rng.normal(size=(512, 2000)) * rng.gamma(0.3, size=2000)
    plain = diagnostics.noise_of_gradients(rows)
    own = CountSketch(2000, 100, seed=1)
    found = diagnostics.noise_of_gradients(own(rows), sketch=own)
    assert found.total.parameters == 2000
    assert found.mean.shape == (100,)
    for name in ("squared_norm", "variance", "noise_scale"):
        ours, exact = getattr(found.total, name), getattr(plain.total, name)
        assert ours.low < exact.value < ours.high, name
        assert ours.high / ours.low > exact.high / exact.low, name


# ---- coverage on finite tasks with a network's parameters


@pytest.mark.parametrize(
    ("task", "repetitions"),
    params({"random": ("random", 20), "all random": ("random", 200), "chain": ("chain", 200),
            "gridworld": ("gridworld", 200)}, {"all random", "chain", "gridworld"}),
)  # fmt: skip
@pytest.mark.timeout(3600)
def test_intervals_of_sketched_gradients_cover(task, repetitions):
    case = Case(task, 1024 if repetitions >= 200 else 256)
    shares = (0.01, 0.05, 0.2) if repetitions >= 200 else (0.05,)
    widths = {f"{x:g}": round(x * case.jacobian.shape[1]) for x in shares}
    found, _ = coverage(case, widths, repetitions)
    print(f"\n{task}: {found}")
    if repetitions < 200:  # of 20 at 90 %, fewer than 14 cover with probability 0.2 %
        assert min(found["0.05"].values()) >= 14 / 20, found["0.05"]
        return
    plain = found.pop(NONE)
    for width, of in found.items():
        for k, share in of.items():
            # what is covered too rarely without a sketch is not the sketch's fault; 6 of 200 apart
            assert share >= min(0.9, plain[k] - 0.03), (width, k, share)
            if k in ("noise scale", "variance", "squared norm"):
                assert 0.9 <= share <= 0.99, (width, k, share)
            if "cosine between" in k:
                assert share >= 0.9, (width, k, share)
