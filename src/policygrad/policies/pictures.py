"""Networks that read pictures: convolutions first, then dense layers.

Every array of three axes among the features is a picture, and gets convolutions of its own. What
they give is read together with all other features, as one vector.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.checks import whole
from policygrad.core.errors import UserError
from policygrad.devices.convolution import convolve
from policygrad.policies.networks import MLP, mlp, orthogonal
from policygrad.spaces.pictures import Channels, channels_of

Layer = tuple[int, int, int]  # filters, side of a filter in pixels, stride in pixels
Convolutions = Callable[[Float[Array, "h w c"]], Float[Array, "h w c"]]

ROOT_2 = math.sqrt(2)  # the usual gain in front of a rectifier


class PictureNetwork(eqx.Module):
    """Convolutions of each picture, then dense layers.

    Attributes:
        convolutions: for each picture, `[h, w, c]` -> `[h, w, c]`.
        channels: for each picture, where its channels stand; static.
        dense: what the convolutions give, and the other features, -> `[outputs]`.
    """

    convolutions: tuple[Convolutions, ...]
    channels: tuple[Channels, ...] = eqx.field(static=True)
    dense: MLP

    def __call__(self, features: PyTree) -> Float[Array, " outputs"]:
        pictures, others = _apart(features)
        seen = [
            jnp.ravel(convolve(_channels_last(picture, channels)))
            for convolve, channels, picture in zip(
                self.convolutions, self.channels, pictures, strict=True
            )
        ]
        return self.dense([*seen, *others])


def _apart(features: PyTree) -> tuple[list[Array], list[Array]]:
    """The pictures among the features, and the other features."""
    leaves = jax.tree.leaves(features)
    return [x for x in leaves if np.ndim(x) == 3], [x for x in leaves if np.ndim(x) != 3]


def _channels_last(picture: Array, channels: Channels) -> Array:
    return picture if channels == "last" else jnp.moveaxis(picture, 0, -1)


class Stack(eqx.Module):
    """Convolutions one after another, each followed by a rectifier; no padding.

    Attributes:
        kernels: `[side, side, in, out]` each.
        biases: `[out]` each.
        strides: static.
    """

    kernels: tuple[Float[Array, "side side in out"], ...]
    biases: tuple[Float[Array, " out"], ...]
    strides: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, picture: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        for kernel, bias, stride in zip(self.kernels, self.biases, self.strides, strict=True):
            picture = jax.nn.relu(convolve(picture, kernel, stride) + bias)
        return picture


class ResidualStage(eqx.Module):
    """A convolution, a maximum over 3×3 pixels with stride 2, and two residual blocks.

    Attributes:
        kernels: `[3, 3, in, out]`: of the convolution, and two of each block.
        biases: `[out]` each.
    """

    kernels: tuple[Float[Array, "3 3 in out"], ...]
    biases: tuple[Float[Array, " out"], ...]

    def __call__(self, picture: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        layers = list(zip(self.kernels, self.biases, strict=True))
        kernel, bias = layers[0]
        picture = _greatest_of_neighbours(_same_size(picture, kernel) + bias)
        for first, second in zip(layers[1::2], layers[2::2], strict=True):
            inner = picture
            for kernel, bias in (first, second):
                inner = _same_size(jax.nn.relu(inner), kernel) + bias
            picture = picture + inner
        return picture


class ResidualStages(eqx.Module):
    """Stages one after another, and a rectifier."""

    stages: tuple[ResidualStage, ...]

    def __call__(self, picture: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        for stage in self.stages:
            picture = stage(picture)
        return jax.nn.relu(picture)


def _same_size(picture: Array, kernel: Array) -> Array:
    """The convolution of a picture with a margin of zeros, so that it keeps its size."""
    return convolve(jnp.pad(picture, ((1, 1), (1, 1), (0, 0))), kernel)


def _greatest_of_neighbours(picture: Array) -> Array:
    """The maximum over 3×3 pixels, at every second pixel."""
    return jax.lax.reduce_window(
        picture, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), padding="SAME"
    )


@dataclass(frozen=True, kw_only=True)
class _OfPictures(ABC):
    """What the architectures below share.

    Attributes:
        hidden: sizes of the dense layers behind the convolutions.
        channels: which axis of a picture holds its channels; None to read it from the shape.
    """

    hidden: Sequence[int] = (512,)
    channels: Channels | None = None

    def __post_init__(self) -> None:
        for size in self.hidden:
            whole("hidden", size)
        object.__setattr__(self, "hidden", tuple(int(size) for size in self.hidden))
        if self.channels not in (None, "first", "last"):
            raise ValueError(f"channels must be 'first', 'last' or None, got {self.channels!r}")

    def build(
        self, key: PRNGKeyArray, example: PyTree, outputs: int, *, last_scale: float = 1.0
    ) -> PictureNetwork:
        pictures, others = _apart(example)
        if not pictures:
            shapes = [list(np.shape(x)) for x in others]
            raise UserError(
                f"the network {type(self).__name__} reads pictures, arrays of three axes, and the "
                f"observation has arrays of the shapes {shapes}; take --network fully-connected"
            )
        channels: tuple[Channels, ...] = tuple(self._channels(np.shape(x)) for x in pictures)
        *keys, dense_key = jax.random.split(key, len(pictures) + 1)
        convolutions, inputs = [], sum(np.size(x) for x in others)
        for picture, where, own_key in zip(pictures, channels, keys, strict=True):
            shape = np.shape(picture)
            h, w, c = shape if where == "last" else (*shape[1:], shape[0])
            rng = np.random.default_rng(np.asarray(jax.random.key_data(own_key)))
            convolve = self.convolutions(rng, (h, w, c))
            convolutions.append(convolve)
            inputs += math.prod(jax.eval_shape(convolve, np.zeros((h, w, c), np.float32)).shape)
        dense = mlp(
            dense_key, inputs, outputs, self.hidden, activation=jax.nn.relu, last_scale=last_scale
        )
        return PictureNetwork(tuple(convolutions), channels, dense)

    def _channels(self, shape: tuple[int, ...]) -> Channels:
        channels = self.channels or channels_of(shape)
        if channels is None:
            raise UserError(
                f"a picture of the shape {list(shape)} does not tell which of its axes holds the "
                "channels; say so by --channels first or --channels last"
            )
        return channels

    @abstractmethod
    def convolutions(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> Convolutions:
        """Fresh convolutions for a picture of height, width and channels."""

    def to_json(self) -> dict[str, Any]:
        return {"hidden": list(self.hidden), "channels": self.channels}


@dataclass(frozen=True, kw_only=True)
class Convolutional(_OfPictures):
    """Convolutions without padding, each followed by a rectifier, then dense layers.

    The default is the network of Mnih et al. 2015.

    Attributes:
        layers: (filters, side of a filter, stride) of each convolution, in pixels.
        hidden, channels: as in every architecture for pictures.

    Raises:
        UserError: when it is built, a picture that is too small.
    """

    layers: Sequence[Layer] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = tuple(tuple(int(n) for n in layer) for layer in self.layers)
        if not layers or any(len(layer) != 3 or min(layer) < 1 for layer in layers):
            raise ValueError(
                "layers must be (filters, side, stride) of each convolution, such as ((16, 8, 4), "
                f"(32, 4, 2)), got {self.layers!r}"
            )
        object.__setattr__(self, "layers", layers)

    @property
    def least_side(self) -> int:
        """The smallest height and width of a picture that it can read, in pixels."""
        side = 1
        for _, size, stride in reversed(self.layers):
            side = (side - 1) * stride + size
        return side

    def convolutions(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> Stack:
        h, w, channels = shape
        if min(h, w) < self.least_side:
            raise UserError(
                f"a picture of {h}×{w} pixels is too small for convolutions of {self.layers} "
                f"(filters, side, stride), which need {self.least_side}×{self.least_side}; take "
                "--network minatar, or impala, which reads any size"
            )
        kernels = []
        for filters, side, _ in self.layers:
            kernels.append(_kernel(rng, side, channels, filters))
            channels = filters
        biases = tuple(jnp.asarray(np.zeros(n, np.float32)) for n, _, _ in self.layers)
        return Stack(tuple(kernels), biases, tuple(stride for _, _, stride in self.layers))

    def to_json(self) -> dict[str, Any]:
        return {"layers": [list(layer) for layer in self.layers], **super().to_json()}


@dataclass(frozen=True, kw_only=True)
class Impala(_OfPictures):
    """Three stages of residual convolutions, then dense layers (Espeholt et al. 2018, figure 3).

    Attributes:
        filters: of each stage.
        hidden, channels: as in every architecture for pictures.
    """

    hidden: Sequence[int] = (256,)
    filters: Sequence[int] = (16, 32, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in self.filters:
            whole("filters", count)
        object.__setattr__(self, "filters", tuple(int(count) for count in self.filters))

    def convolutions(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> ResidualStages:
        *_, channels = shape
        stages = []
        for filters in self.filters:
            scales = (1.0, ROOT_2, 1.0, ROOT_2, 1.0)
            kernels = [
                _kernel(rng, 3, channels if i == 0 else filters, filters, scale)
                for i, scale in enumerate(scales)
            ]
            biases = tuple(jnp.asarray(np.zeros(filters, np.float32)) for _ in kernels)
            stages.append(ResidualStage(tuple(kernels), biases))
            channels = filters
        return ResidualStages(tuple(stages))

    def to_json(self) -> dict[str, Any]:
        return {"filters": list(self.filters), **super().to_json()}


def _kernel(
    rng: np.random.Generator, side: int, channels: int, filters: int, scale: float = ROOT_2
) -> Array:
    """Orthogonal filters, `[side, side, in, out]`."""
    matrix = orthogonal(rng, filters, side * side * channels, scale)
    return matrix.T.reshape(side, side, channels, filters)


def nature() -> Convolutional:
    """The network of Mnih et al. 2015: three convolutions and 512 units, for 36 pixels or more."""
    return Convolutional()


def small() -> Convolutional:
    """The network of Mnih et al. 2013: two convolutions and 256 units, for 20 pixels or more.

    The default for pictures: on processors without an accelerator its gradients take 40 % of the
    time of those of `nature`.
    """
    return Convolutional(layers=((16, 8, 4), (32, 4, 2)), hidden=(256,))


def minatar() -> Convolutional:
    """The network of Young & Tian 2019 for pictures of 10×10: one convolution and 128 units."""
    return Convolutional(layers=((16, 3, 1),), hidden=(128,))


def impala() -> Impala:
    """The residual network of Espeholt et al. 2018, for any size."""
    return Impala()
