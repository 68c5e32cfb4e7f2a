"""The numbers in environments' infos, over the episodes that ended last."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np

from policygrad.environments.infos import Infos, Names

RECENT = 100  # episodes that metrics are means of
Ended = dict[str, tuple[float, float]]


class InfoTally:
    """Keeps, by lane and name, the last number and the sum within the running episode.

    Args:
        lanes: B.

    Attributes:
        last, sums: name -> `[B]`; NaN in `last` for lanes whose episode had no such number yet.
        repeated: names that came at other steps than the last of an episode.
        ended: name -> (last, sum) of each of the newest episodes.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes, self._names = lanes, Names()
        self.last: dict[str, np.ndarray] = {}
        self.sums: dict[str, np.ndarray] = {}
        self.repeated: set[str] = set()
        self.ended: deque[Ended] = deque(maxlen=RECENT)

    def add(self, infos: Infos, valid: np.ndarray, ended: np.ndarray) -> None:
        """Take one step of all lanes.

        Args:
            infos: of the step.
            valid: `[B]`, lanes whose step counts.
            ended: `[B]`, lanes whose episode ended with it; each is a lane whose step counts.
        """
        if not infos and not self.last:
            return
        for name, (values, present) in infos.items():
            if name not in self.last:
                if not self._names.takes(name):
                    continue
                self.last[name] = np.full(self._lanes, np.nan)
                self.sums[name] = np.zeros(self._lanes)
            taken = present & valid
            self.last[name][taken] = values[taken]
            self.sums[name][taken] += values[taken]
            if name not in self.repeated and (taken & ~ended).any():
                self.repeated.add(name)
        if ended.any():
            for lane in np.flatnonzero(ended).tolist():
                self.ended.append(self._episode(lane))
            self.begin(ended)

    def begin(self, which: np.ndarray | None = None) -> None:
        """Forget the running episodes of some lanes, by flags `[B]`, or of all."""
        lanes = slice(None) if which is None else which
        for name in self.last:
            self.last[name][lanes] = np.nan
            self.sums[name][lanes] = 0.0

    def _episode(self, lane: int) -> Ended:
        last = {name: float(values[lane]) for name, values in self.last.items()}
        return {n: (x, float(self.sums[n][lane])) for n, x in last.items() if not np.isnan(x)}

    def means(self) -> dict[str, float]:
        """`info/NAME`: the mean over the newest 100 episodes of the last number in each;
        `info_sum/NAME`: of its sum over each, for names that came at more than the last step."""
        found: dict[str, float] = {}
        for name in sorted({name for episode in self.ended for name in episode}):
            rows = [episode[name] for episode in self.ended if name in episode]
            last, total = np.mean(rows, axis=0)
            found[f"info/{name}"] = float(last)
            if name in self.repeated:
                found[f"info_sum/{name}"] = float(total)
        return found

    def state(self) -> dict[str, Any]:
        """Plain data that `restore` reads."""

        def numbers(values: np.ndarray) -> list[float | None]:
            return [None if np.isnan(x) else float(x) for x in values]

        return {
            "last": {name: numbers(values) for name, values in self.last.items()},
            "sums": {name: numbers(values) for name, values in self.sums.items()},
            "repeated": sorted(self.repeated),
            "ended": [{n: list(pair) for n, pair in e.items()} for e in self.ended],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: it is of another number of lanes.
        """
        last, sums = (
            {n: np.array(values, float) for n, values in state[key].items()}
            for key in ("last", "sums")
        )
        if any(values.shape != (self._lanes,) for values in (*last.values(), *sums.values())):
            raise ValueError(f"infos of another number of environments than {self._lanes}")
        self.last, self.sums, self.repeated = last, sums, set(state["repeated"])
        self._names = Names(self.last)
        episodes = ({n: (float(a), float(b)) for n, (a, b) in e.items()} for e in state["ended"])
        self.ended = deque(episodes, maxlen=RECENT)


def means_over(states: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The means, as of `InfoTally.means`, over the newest episodes of several tallies alike.

    Args:
        states: what `InfoTally.state` returned; empty for one without infos.
    """
    states, tally = [state for state in states if state], InfoTally(0)
    newest_first = zip_longest(*(reversed(state["ended"]) for state in states))
    episodes = (e for e in chain.from_iterable(newest_first) if e is not None)
    tally.ended.extend(islice(episodes, RECENT))
    tally.repeated.update(*(state["repeated"] for state in states))
    return tally.means()
