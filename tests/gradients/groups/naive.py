"""The weights of group estimators, one episode after the other, in plain Python floats."""

import math
import statistics


def weights(name, returns, lengths, greedy, values):
    """`[G][k]` weights of a batch, given as lists of lists; None if the name is not known."""
    return BY_NAME[name](returns, lengths, greedy, values)


def over_groups(weight):
    """A rule for episode i of one group as a rule for a batch."""

    def of_batch(returns, lengths, greedy, values):
        return [
            [weight(R, L, i, greedy[g], values[g]) for i in range(len(R))]
            for g, (R, L) in enumerate(zip(returns, lengths, strict=True))
        ]

    return of_batch


def others(xs, i):
    return xs[:i] + xs[i + 1 :]


def deviation(xs):
    return statistics.stdev(xs) if len(xs) > 1 else 0.0


def rloo_over_deviation(R, L, i, greedy, value):
    rest = others(R, i)
    return (R[i] - statistics.fmean(rest)) / (deviation(rest) + 1e-6)


def dapo(returns, lengths, greedy, values):
    steps = [n for L in lengths for n in L]
    mean_length = sum(steps) / len(steps)
    return [
        [(x - statistics.fmean(R)) / (deviation(R) + 1e-4) / mean_length for x in R]
        for R in returns
    ]


def whitened(advantages):
    flat = [x for row in advantages for x in row]
    mean = statistics.fmean(flat)
    variance = statistics.fmean([(x - mean) ** 2 for x in flat])
    return [[(x - mean) / math.sqrt(variance + 1e-8) for x in row] for row in advantages]


def centred(returns):
    return [[x - statistics.fmean(R) for x in R] for R in returns]


def shrinkage(returns, lengths, greedy, values):
    found = []
    for g, R in enumerate(returns):
        rest = others(returns, g)
        means = [statistics.fmean(other) for other in rest]
        m = statistics.fmean(means)
        v2 = statistics.fmean([statistics.variance(other) / len(other) for other in rest])
        s2 = statistics.fmean([(mean - m) ** 2 for mean in means])
        share = v2 / (v2 + s2 + 1e-6)
        found.append(
            [
                x - ((1 - share) * statistics.fmean(others(R, i)) + share * m)
                for i, x in enumerate(R)
            ]
        )
    return found


BY_NAME = {
    "plain": over_groups(lambda R, L, i, greedy, value: R[i]),
    "group-mean": over_groups(lambda R, L, i, greedy, value: R[i] - statistics.fmean(R)),
    "rloo": over_groups(lambda R, L, i, greedy, value: R[i] - statistics.fmean(others(R, i))),
    "grpo": over_groups(
        lambda R, L, i, greedy, value: (
            (R[i] - statistics.fmean(R)) / (statistics.stdev(R) + 1e-4) / L[i]
        )
    ),
    "dr-grpo": over_groups(lambda R, L, i, greedy, value: R[i] - statistics.fmean(R)),
    "dapo": dapo,
    "remax": over_groups(lambda R, L, i, greedy, value: R[i] - greedy),
    "opo": over_groups(
        lambda R, L, i, greedy, value: R[i] - sum(x * n for x, n in zip(R, L, strict=True)) / sum(L)
    ),
    "reinforce++": lambda returns, lengths, greedy, values: whitened(returns),
    "reinforce++-baseline": lambda returns, lengths, greedy, values: whitened(centred(returns)),
    "shrinkage": shrinkage,
    "value": over_groups(lambda R, L, i, greedy, value: R[i] - value),
    "rloo-over-std-of-others": over_groups(rloo_over_deviation),
}
