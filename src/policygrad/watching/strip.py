"""The strip beside a picture: what the policy is paid, and how sure it is."""

import importlib.util
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from policygrad.watching.sureness import Sureness

WIDTH, MARGIN, LEAST_HEIGHT = 264, 18, 400
PAPER, PANEL, INK, PALE, FAINT = "#f7f8f9", "#ffffff", "#1f2a33", "#6b7882", "#d9dee2"
PAID, SURE, CHOSEN = "#0b5fa5", "#c2571a", "#0b5fa5"
CURVE = 44  # pixels high
HISTORY = (WIDTH - 2 * MARGIN) // 2  # steps that a curve shows at most


class Shown(NamedTuple):
    """What is shown of one step.

    Attributes:
        episode, step: counted from 0.
        reward: of this step.
        paid: the sum of rewards up to this step, and with it.
        action: the number of the action, if it is one of n.
        sureness: of the policy when it chose the action.
    """

    episode: int
    step: int
    reward: float
    paid: float
    action: int | None
    sureness: Sureness


class Strip:
    """Draws strips for the pictures of some episodes, in order.

    Args:
        episodes: how many there will be.
    """

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._paid: deque[float] = deque(maxlen=HISTORY)
        self._sure: deque[float] = deque(maxlen=HISTORY)

    def beside(self, picture: np.ndarray, shown: Shown) -> np.ndarray:
        """The picture `[h, w, 3]` with the strip on its right, with even sides."""
        if shown.step == 0:
            self._paid.clear()
            self._sure.clear()
        self._paid.append(shown.paid)
        height, width, _ = picture.shape
        tall = max(height, LEAST_HEIGHT)
        whole = Image.new("RGB", (_even(width + WIDTH), _even(tall)), PAPER)
        whole.paste(Image.fromarray(picture), (0, (tall - height) // 2))
        self._draw(_Pen(whole, width + MARGIN, whole.width - MARGIN), shown, whole.height)
        return np.asarray(whole)

    def _draw(self, pen: "_Pen", shown: Shown, bottom: int) -> None:
        pen.texts(14, f"episode {shown.episode + 1} of {self._episodes}", f"step {shown.step + 1}")
        pen.texts(42, "paid so far", f"this step {_number(shown.reward, sign=True)}")
        pen.text(58, _number(shown.paid), size=24, colour=INK)
        pen.curve(92, self._paid, PAID, width=2)
        self._draw_sureness(pen, shown, bottom)

    def _draw_sureness(self, pen: "_Pen", shown: Shown, bottom: int) -> None:
        sure, top = shown.sureness, 152
        if sure.entropy is not None:
            entropy = max(float(sure.entropy), 0.0) if sure.greatest is not None else sure.entropy
            greatest = 0.0 if sure.greatest is None else float(sure.greatest)
            of = f" of {greatest:.2f}" if greatest else ""
            pen.texts(top, "entropy", f"{float(entropy):.2f}{of} nats")
            if greatest:
                self._sure.append(min(float(entropy) / greatest, 1.0))
                pen.bar(top + 20, self._sure[-1], SURE, height=8)
                pen.curve(top + 34, self._sure, SURE, (0.0, 1.0))
            else:
                self._sure.append(float(entropy))
                pen.curve(top + 20, self._sure, SURE)
            top += 94
        elif sure.deviations is not None:
            mean = float(np.mean(sure.deviations))
            self._sure.append(mean)
            pen.texts(top, "standard deviation", f"mean {_number(mean)}")
            pen.curve(top + 20, self._sure, SURE, (0.0, max(1.0, max(self._sure))))
            top += 80
        if sure.probabilities is not None:
            pen.texts(top, "probability of each action")
            pen.rows(top + 20, sure.probabilities, bottom, shown.action)
        elif sure.deviations is not None:
            pen.texts(top, "… of each part, in half its range")
            pen.rows(top + 20, sure.deviations, bottom, None)


class _Pen:
    """Draws between two edges of a picture."""

    def __init__(self, image: Image.Image, left: int, right: int) -> None:
        self._draw, self._left, self._right = ImageDraw.Draw(image), left, right

    def text(
        self, top: int, text: str, *, size: int = 12, colour: str = PALE, right: bool = False
    ) -> None:
        place = self._right if right else self._left
        self._draw.text((place, top), text, colour, _font(size), "ra" if right else "la")

    def texts(self, top: int, left: str, right: str = "") -> None:
        """One text at each edge."""
        self.text(top, left)
        self.text(top, right, colour=INK, right=True)

    def bar(self, top: int, share: float, colour: str, height: int, left: int = 0) -> None:
        """A bar that fills a share of its length."""
        start = self._left + left
        self._draw.rectangle((start, top, self._right, top + height - 1), FAINT)
        end = start + round(share * (self._right - start))
        if end > start:
            self._draw.rectangle((start, top, end, top + height - 1), colour)

    def curve(
        self,
        top: int,
        values: Sequence[float],
        colour: str,
        limits: tuple[float, float] | None = None,
        width: int = 1,
    ) -> None:
        """Values as a line; zero is inside the limits."""
        low, high = limits or (min(0.0, *values, 0.0), max(0.0, *values, 0.0))
        frame = (self._left, top, self._right, top + CURVE)
        self._draw.rectangle(frame, PANEL, FAINT)
        size = (high - low) or 1.0
        y = top + CURVE - 3 - (np.array(values) - low) / size * (CURVE - 6)
        if low < 0 < high:
            zero = top + CURVE - 3 + low / size * (CURVE - 6)
            self._draw.line((self._left + 1, zero, self._right - 1, zero), FAINT)
        span = self._right - self._left - 4
        x = self._left + 2 + np.arange(len(values)) * (span / (HISTORY - 1))
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        self._draw.line(points * (2 if len(points) == 1 else 1), colour, width)

    def rows(self, top: int, values: Any, bottom: int, chosen: int | None) -> None:
        """One bar for each value, as many as there is room for."""
        values = np.asarray(values, float)
        room = bottom - MARGIN // 2 - top
        step = int(np.clip(room // max(len(values), 1), 9, 20))
        size = 11 if step >= 13 else 8
        for number, value in enumerate(values[: room // step].tolist()):
            y, picked = top + number * step, number == chosen
            colour = CHOSEN if picked else "#9fb3c2"
            self.text(y + 1, str(number), size=size, colour=INK if picked else PALE)
            self.bar(y + 2, min(value, 1.0), colour, height=step - 4, left=22)


def _number(value: float, *, sign: bool = False) -> str:
    """Four digits of a number."""
    if not np.isfinite(value):
        return str(value)
    digits = 0 if value == round(value) and abs(value) < 1e6 else 2 if abs(value) < 100 else 1
    return f"{value:+,.{digits}f}" if sign and value else f"{value:,.{digits}f}"


def _even(size: int) -> int:
    return size + size % 2


@cache
def _font(size: int) -> Any:
    """Matplotlib's own font, which is wherever this library is."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
