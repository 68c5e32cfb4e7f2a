"""Every unordered draw of k out of n outcomes, and its probability."""

import itertools
import math

import numpy as np
from jaxtyping import Float, Int


def multisets(
    probabilities: Float[np.ndarray, " n"], size: int
) -> tuple[Int[np.ndarray, "N k"], Float[np.ndarray, " N"]]:
    """The draws of k independent outcomes, their order left out.

    P(multiset) = k! / Π_o n_o! · Π_o p_o^{n_o},  n_o how often outcome o is in it. It is computed
    as a sum of logarithms, since k! of 171 and more is beyond float64.

    Returns:
        Indices in rising order, and the probability of each; N = (n + k − 1 choose k).
    """
    n, count = len(probabilities), how_many(len(probabilities), size)
    flat = itertools.chain.from_iterable(itertools.combinations_with_replacement(range(n), size))
    rows = np.fromiter(flat, np.int64, count * size).reshape(count, size)
    # Π_o n_o! = the product, over the row, of the place of each entry among its equals
    places = np.ones((count, size))
    for i in range(1, size):
        places[:, i] = np.where(rows[:, i] == rows[:, i - 1], places[:, i - 1] + 1, 1)
    with np.errstate(divide="ignore"):  # log 0 = −∞, and a probability of 0
        drawn = np.log(probabilities)[rows] - np.log(places)
    return rows, np.exp(math.lgamma(size + 1) + drawn.sum(axis=1))


def how_many(n: int, size: int) -> int:
    """(n + k − 1 choose k)."""
    return math.comb(n + size - 1, size)
