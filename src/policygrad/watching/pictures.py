"""Pictures as they are shown: what environments draw, and what policies see, made large enough."""

from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.spaces.pictures import channels_of

LEAST = 400  # pixels of the longer side
# of the channels of an observation, for a picture in false colours
COLOURS = np.array(
    [(88, 164, 255), (255, 140, 66), (94, 201, 122), (214, 117, 219), (230, 208, 72),
     (150, 165, 178), (240, 84, 104), (76, 201, 214), (255, 255, 255), (168, 132, 92)], float,
)  # fmt: skip


def checked(picture: Any, name: str) -> np.ndarray:
    """What an environment drew; UserError unless it is a picture.

    Args:
        picture: what `render` returned.
        name: of the environment.
    """
    array: Any = picture if isinstance(picture, np.ndarray) else np.zeros(0)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        kind = f"an array {list(array.shape)}" if array.size else type(picture).__name__
        raise UserError(f"{name}.render() must return a picture [height, width, 3], got {kind}")
    return array


def shown(picture: np.ndarray) -> np.ndarray:
    """A picture `[h, w, 3]` as bytes; a small one enlarged by a whole factor."""
    if picture.dtype != np.uint8:
        scale = 255 if picture.dtype.kind == "f" and picture.max(initial=0) <= 1 else 1
        picture = np.clip(picture * scale, 0, 255).astype(np.uint8)
    factor = max(1, -(-LEAST // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def newest_frame(stacked: np.ndarray) -> np.ndarray:
    """The newest of stacked frames `[n, h, w]` or `[n, h, w, 3]`, in colours."""
    frame = stacked[-1]
    return np.stack([frame] * 3, axis=-1) if frame.ndim == 2 else frame


def of_observation(observation: np.ndarray) -> np.ndarray:
    """A picture of an observation that is one: `[h, w, channels]`, `[channels, h, w]`, `[h, w]`.

    One or three channels of bytes are grey and colours. Otherwise each channel has a colour of its
    own, and the last one that is not zero covers the others.
    """
    array = np.asarray(observation)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim == 3 and channels_of(array.shape) == "first":
        array = np.moveaxis(array, 0, -1)
    count = array.shape[-1]
    if array.dtype == np.uint8 and count in (1, 3):
        return np.broadcast_to(array, (*array.shape[:2], 3))
    values = array.astype(float)
    values = np.clip(values / max(1.0, values.max(initial=0.0)), 0, 1)
    picture = np.full((*array.shape[:2], 3), 24.0)
    for channel in range(count):
        share = values[..., channel, None]
        picture = picture * (1 - share) + COLOURS[channel % len(COLOURS)] * share
    return picture.astype(np.uint8)
