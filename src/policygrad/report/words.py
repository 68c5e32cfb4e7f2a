"""The terms of a report in plain words, each explained where it first stands."""

import html
import re
from dataclasses import dataclass, field
from typing import NamedTuple


class Term(NamedTuple):
    """A term of art.

    Attributes:
        name: as it is explained.
        pattern: what it looks like in a text.
        meaning: one short sentence.
    """

    name: str
    pattern: str
    meaning: str


TERMS = (
    Term("Return", r"\breturns?\b", "The sum of the rewards of one episode."),
    Term(
        "95 % interval", r"95\s%|\[[-+−\d∞]",
        "The two numbers in brackets. In 95 of 100 measurements such an interval holds the true "
        "value.",
    ),
    Term("99.9 % interval", r"99\.9\s%", "The same for 999 of 1,000 measurements; it is wider."),
    Term(
        "Not significant", r"not significant",
        "The interval of the difference holds zero: the difference may be chance.",
    ),
    Term("Predicted", r"\bpredicted\b", "Computed from other numbers, not measured itself."),
    Term(
        "Clean bill", r"clean bill",
        "The doctor's word that a run is healthy. It needs more than that nothing is found.",
    ),
    Term("Fresh episodes", r"fresh (?:episodes|ones)",
         "Played for this report with the newest policy, which does not change by them."),
    Term("Mode", r"\bmode\b|most probable action",
         "The policy's most probable action at every step, in place of a random draw."),
    Term("Critic", r"\bcritic\b", "The part of the learner that predicts returns."),
    Term("Baseline", r"\bbaseline\b",
         "A prediction of the return that is subtracted from it, so that the gradient is less "
         "noisy."),
    Term("Advantage", r"\badvantages?\b",
         "By how much an action returns more than the critic had predicted."),
    Term(
        "Explained variance", r"explained variance|explains? .{0,30}(?:of the variance|returns)",
        "How well returns are predicted: 1 is exact, 0 is as good as a constant, below 0 is worse.",
    ),
    Term("KL", r"\bKL\b",
         "How far an update changes the probabilities of actions: 0 is not at all."),
    Term("Entropy", r"\bentropy\b",
         "How random the actions are: the lower, the surer the policy is of its choice."),
    Term("Nat", r"\bnats?\b", "The unit of KL and entropy; a bit is 0.69 nats."),
    Term("γ (discount)", r"γ|\bdiscount",
         "What a reward counts that comes one step later, such as 0.99."),
    Term("λ", r"λ|gae[-_]lambda",
         "What the advantage rests on: near 1 on rewards that were seen, at 0 on the critic."),
    Term("GAE", r"\bGAE\b|\bgae\b",
         "Generalised advantage estimation, which mixes rewards and the critic's predictions by "
         "λ."),
    Term("Step size", r"step[- ]size|learning[_ ]rate",
         "How far an update moves the policy's parameters; also called learning rate."),
    Term("Gradient", r"\bgradients?\b",
         "The direction of change in which the return grows fastest, estimated from episodes."),
    Term("Estimator", r"\bestimators?\b", "A formula that makes a gradient of episodes."),
    Term("Rewards to go", r"rewards? to go|reward-to-go|returns? to go",
         "The rewards from a step on to the end of its episode."),
    Term("Bias", r"\bbias(?:es|ed)?\b",
         "The error of an estimator on average, which no number of episodes removes."),
    Term("Variance", r"\bvariance\b",
         "The mean of the squared distances from the mean: how much chance there is."),
    Term("Cosine", r"\bcosine\b",
         "How alike two directions are: 1 is the same direction, 0 is unrelated."),
    Term("Signal-to-noise ratio", r"signal-to-noise",
         "The length of the true gradient, divided by the size of the noise of one episode."),
    Term("Noise scale", r"noise scale",
         "The size of a batch in which signal and noise are equal; a much smaller batch is mostly "
         "noise."),
    Term("Truncated", r"\btruncat(?:ed|ion)\b",
         "Cut off by a time limit, as against ended by the rules of the task."),
    Term("Standard deviation", r"standard deviation", "The usual distance from the mean."),
)  # fmt: skip


@dataclass
class Glossary:
    """What a page has explained so far.

    Attributes:
        told: names of the terms.
    """

    told: set[str] = field(default_factory=set)

    def after(self, fragment: str) -> str:
        """A piece of HTML with a list of the terms that stand in it for the first time."""
        text = text_of(fragment)
        new = [t for t in TERMS if t.name not in self.told and re.search(t.pattern, text)]
        self.told |= {t.name for t in new}
        if not new:
            return fragment
        rows = "\n".join(
            f"<div><dt>{html.escape(t.name)}</dt> <dd>{html.escape(t.meaning)}</dd></div>"
            for t in new
        )
        return f'{fragment}\n<dl class="words">{rows}</dl>'


def text_of(fragment: str) -> str:
    """The text of a piece of HTML, without names in code."""
    return html.unescape(re.sub(r"<code>.*?</code>|<[^>]*>", " ", fragment))
