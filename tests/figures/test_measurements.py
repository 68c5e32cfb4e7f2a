"""Pictures of what was measured: what they show, also of what is not known."""

from io import BytesIO

import numpy as np

from policygrad import diagnostics
from policygrad.figures import measurements as plots


def test_pictures_survive_what_is_not_known():
    nothing = diagnostics.noise_of_gradients(np.zeros((32, 3)))
    zero = np.zeros(10)
    rows = np.random.default_rng(0).normal(size=(32, 3))
    one = diagnostics.compare_gradients({"a": rows}, reference="a", batch_episodes=2)
    for figure in (
        plots.cosine_against_episodes(nothing, float("nan")),
        plots.baseline_against_return(zero, zero),
        plots.bias_variance_plane(one),
    ):
        drawn = BytesIO()
        figure.savefig(drawn, format="png")
        assert drawn.getvalue().startswith(b"\x89PNG")
        assert figure.axes[0].get_title(loc="left")


def names_of(comparison):
    """Estimator -> how its name is written, and how high, from the bottom to the top."""
    texts = plots.bias_variance_plane(comparison).axes[0].texts
    return {text.get_text(): text.get_position()[1] for text in texts}


def test_names_in_the_plane_lie_apart_in_the_order_of_the_variances():
    rng = np.random.default_rng(0)
    exact, noise = rng.normal(1.0, 1.0, (200, 5)), rng.normal(size=(200, 5))
    rows = {f"e{i}": exact + size * noise for i, size in enumerate((30, 3.2, 3.1, 3.0, 0.1))}
    found = diagnostics.compare_gradients(rows, reference="e0", batch_episodes=4)
    places = {text.split()[0]: place for text, place in names_of(found).items()}
    variances = {name: found.estimators[name].variance.value for name in rows}
    order = sorted(rows, key=variances.__getitem__)
    assert sorted(rows, key=places.__getitem__) == order
    heights = np.sort(list(places.values()))
    apart = np.diff(heights)
    assert apart.min() > 0.03
    assert heights[0] > -0.1
    assert heights[-1] < 1.1
    assert apart.max() > 3 * apart.min()  # only those that would touch are moved


def test_the_plane_says_where_the_least_error_is_open():
    rng = np.random.default_rng(0)
    exact, noise = rng.normal(3.0, 0.1, (400, 5)), rng.normal(size=(400, 5))
    rows = {"exact": exact, "noisy": exact + 5 * noise, "shifted": exact + 4.0}
    sure = diagnostics.compare_gradients(rows, reference="exact", batch_episodes=4)
    assert "exact  ← least error" in names_of(sure)
    alike = {"one": exact + noise, "other": exact + noise[::-1]}
    open_ = diagnostics.compare_gradients(alike, reference="one", batch_episodes=4)
    assert any(text.endswith("← least error, not surely") for text in names_of(open_))
