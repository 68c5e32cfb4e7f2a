"""Pictures as they are shown, and the strip beside them."""

import numpy as np
import pytest
from PIL import Image

from policygrad.core.errors import UserError
from policygrad.watching import pictures, strip
from policygrad.watching.strip import Shown, Strip
from policygrad.watching.sureness import Sureness


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((210, 160), (420, 320)),
        ((84, 84), (420, 420)),
        ((10, 10), (400, 400)),
        ((400, 600), (400, 600)),
        ((480, 480), (480, 480)),
        ((399, 3), (798, 6)),
    ],
)
def test_small_pictures_are_enlarged_by_a_whole_factor(size, shown):
    drawn = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = pictures.shown(drawn)
    assert found.shape == (*shown, 3)
    factor = shown[0] // size[0]
    assert np.array_equal(found[::factor, ::factor], drawn)


def test_other_numbers_become_bytes():
    assert pictures.shown(np.full((400, 400, 3), 0.5)).max() == 127
    assert pictures.shown(np.full((400, 400, 3), 300)).max() == 255


@pytest.mark.parametrize(
    "drawn",
    [None, [], *(np.zeros(shape) for shape in [(4, 4), (4, 4, 4), (0, 4, 3), (2, 2, 2, 3)])],
)
def test_what_is_no_picture_is_refused(drawn):
    with pytest.raises(UserError, match=r"Env.render\(\) must return a picture"):
        pictures.checked(drawn, "Env")


def test_observations_as_pictures():
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    assert np.array_equal(pictures.of_observation(grey), np.repeat(grey, 3, axis=2))
    colours = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    assert np.array_equal(pictures.of_observation(colours), colours)
    assert np.array_equal(pictures.of_observation(np.moveaxis(colours, -1, 0)), colours)
    channels = np.zeros((10, 10, 4), np.float32)
    channels[0, 0, 0] = channels[1, 1, 0] = channels[1, 1, 3] = 1
    found = pictures.of_observation(channels)
    assert found[0, 0].tolist() == pictures.COLOURS[0].tolist()
    assert found[1, 1].tolist() == pictures.COLOURS[3].tolist()
    assert found[5, 5].tolist() == [24, 24, 24]
    assert pictures.of_observation(np.eye(10, 5, dtype=np.int32)).shape == (10, 5, 3)


def test_the_newest_of_stacked_frames():
    stacked = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 84, 84), np.uint8)
    assert np.array_equal(pictures.newest_frame(stacked), np.full((84, 84, 3), 3))


STATES = [
    Sureness(np.float32(0.3), np.float32(0.69), np.array([0.1, 0.9]), None),
    Sureness(np.float32(0.0), np.float32(0.0), np.array([1.0]), None),
    Sureness(np.float32(2.0), np.float32(2.89), np.full(18, 1 / 18), None),
    Sureness(np.float32(3.0), np.float32(5.0), None, None),
    Sureness(None, None, None, np.array([0.2, 1.4])),
    Sureness(None, None, None, np.full(60, 0.5)),
    Sureness(np.float32(1.0), np.float32(1.1), None, np.array([0.5])),
    Sureness(np.float32(-1.5), None, None, None),
]


@pytest.mark.parametrize("sureness", STATES)
@pytest.mark.parametrize("size", [(400, 600), (420, 320), (101, 401)])
def test_every_kind_of_policy_has_a_strip(sureness, size):
    drawn = Strip(2)
    picture = np.full((*size, 3), 7, np.uint8)
    for step in range(300):
        shown = Shown(1, step, -1e7 if step == 4 else 0.5, 12345.678 * step, 0, sureness)
        if step in (0, 1, 299):
            whole = drawn.beside(picture, shown)
    height, width, _ = whole.shape
    assert height % 2 == width % 2 == 0
    assert height >= max(size[0], 400)
    assert width >= size[1] + strip.WIDTH
    top = (max(size[0], 400) - size[0]) // 2
    assert np.array_equal(whole[top : top + size[0], : size[1]], picture)
    margin = whole[:, size[1] + 2 : size[1] + strip.MARGIN - 2]
    assert len(np.unique(margin.reshape(-1, 3), axis=0)) == 1  # nothing is drawn outside


def bar(whole, colour):
    """How many pixels of a strip have a colour."""
    return int(np.all(whole == np.array(Image.new("RGB", (1, 1), colour))[0, 0], axis=2).sum())


def test_the_bars_are_as_long_as_the_numbers():
    picture = np.zeros((400, 400, 3), np.uint8)

    def filled(share):
        sure = Sureness(np.float32(share), np.float32(1.0), None, None)
        return bar(Strip(1).beside(picture, Shown(0, 0, 0.0, 0.0, None, sure)), strip.SURE)

    empty, half, full = filled(0.0), filled(0.5), filled(1.0)
    assert half - empty == pytest.approx((full - empty) / 2, rel=0.02)
    assert full > 1500


def test_an_episode_begins_with_empty_curves():
    sure, picture = STATES[0], np.zeros((400, 400, 3), np.uint8)
    one, two = Strip(1), Strip(1)
    for step in range(50):
        one.beside(picture, Shown(0, step, 1.0, step, 1, sure))
    begins = Shown(0, 0, 1.0, 1.0, 1, sure)
    assert np.array_equal(one.beside(picture, begins), two.beside(picture, begins))


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (-21, "-21"), (0.123, "0.12"), (1234.56, "1,234.6"), (float("nan"), "nan")],
)
def test_numbers_are_short(value, text):
    assert strip._number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.0, "+1"), (0.0, "0"), (-0.5, "-0.50")])
def test_rewards_have_a_sign(value, text):
    assert strip._number(value, sign=True) == text
