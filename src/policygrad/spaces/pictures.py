"""What shapes pictures have, and which axis holds their channels."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Shaped

Channels = Literal["first", "last"]

LEAST_SIDE = 8  # of a picture, in pixels; smaller arrays of three axes are read as plain numbers


def channels_of(shape: tuple[int, ...]) -> Channels | None:
    """Where the channels of a picture stand, as far as its shape tells; None if it does not.

    They stand on the axis that is smaller than both others. If none is, two equal sides next to
    each other are height and width.

    Args:
        shape: of the picture, three numbers.

    >>> channels_of((4, 84, 84)), channels_of((210, 160, 3)), channels_of((10, 10, 16))
    ('first', 'last', 'last')
    >>> channels_of((10, 10, 10)) is None
    True
    """
    first, middle, last = shape
    if first < min(middle, last):
        return "first"
    if last < min(first, middle):
        return "last"
    if (first == middle) != (middle == last):
        return "last" if first == middle else "first"
    return None


def height_and_width(shape: tuple[int, ...]) -> tuple[int, int]:
    """The sides of a picture, in pixels; the smallest two where its shape does not tell."""
    match channels_of(shape):
        case "first":
            return shape[1], shape[2]
        case "last":
            return shape[0], shape[1]
    return sorted(shape)[0], sorted(shape)[1]


def shape_of_three_axes(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The shape in which a picture is read, or several in a row as one; None for other shapes.

    A picture of two axes has one channel. The channels of several pictures stand side by side.

    >>> shape_of_three_axes((84, 84)), shape_of_three_axes((4, 84, 84, 3))
    ((84, 84, 1), (84, 84, 12))
    """
    match shape:
        case (h, w):
            return h, w, 1
        case (_, _, _):
            return shape
        case (k, *of_one):
            a, b, c = of_one if len(of_one) == 3 else (0, 0, 0)
            channels = channels_of((a, b, c))
            return {"first": (k * a, b, c), "last": (a, b, k * c)}.get(channels or "")
    return None


def with_three_axes(picture: Shaped[Array, "..."]) -> Shaped[Array, "a b c"]:
    """A picture, or several in a row, in the shape of `shape_of_three_axes`."""
    moved = jnp.moveaxis(picture, 0, 2) if is_reordered(picture.shape) else picture
    return moved.reshape(shape_of_three_axes(picture.shape))


def is_reordered(shape: tuple[int, ...]) -> bool:
    """Whether the numbers of these pictures are read in another order than they stand in."""
    return len(shape) == 4 and channels_of(shape[1:]) == "last"
