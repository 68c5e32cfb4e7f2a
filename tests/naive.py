"""Returns and advantages as they are defined: double sums in plain NumPy, one step at a time.

Written from the equations and from nothing in `src`. A sum that starts at step t runs on until its
episode ends or the record does; the product of the discounts on the way multiplies each term.
"""

import numpy as np


def steps_from(t, terminated, truncated):
    """Steps t, t+1, …, up to and including the one that ends the episode or the record."""
    last = next(
        (k for k in range(t, len(terminated)) if terminated[k] or truncated[k]),
        len(terminated) - 1,
    )
    return range(t, last + 1)


def discounted_return(rewards, discount):
    """Σ_t (Π_{k<t} γ_k) r_t."""
    discount = np.broadcast_to(discount, len(rewards))
    return sum(np.prod(discount[:t]) * rewards[t] for t in range(len(rewards)))


def n_step_return(t, n, rewards, next_values, terminated, truncated, discount):
    """Σ_{k<n} γ^k r_{t+k} + γ^n V(s_{t+n}); fewer rewards where the episode ends sooner."""
    discount = np.broadcast_to(discount, len(rewards))
    steps = steps_from(t, terminated, truncated)[:n]
    total = sum(np.prod(discount[t:k]) * rewards[k] for k in steps)
    last = steps[-1]
    if terminated[last]:
        return total
    return total + np.prod(discount[t : last + 1]) * next_values[last]


def n_step_returns(rewards, next_values, terminated, truncated, discount, n):
    record = rewards, next_values, terminated, truncated, discount
    return np.array([n_step_return(t, n, *record) for t in range(len(rewards))])


def returns_to_go(rewards, next_values, terminated, truncated, discount):
    """Σ_{k≥t} γ^{k−t} r_k, and the value behind the cut."""
    return n_step_returns(rewards, next_values, terminated, truncated, discount, len(rewards))


def lambda_returns(rewards, next_values, terminated, truncated, discount, gae_lambda):
    """(1 − λ) Σ_{n<N} λ^{n−1} G^(n) + λ^{N−1} G^(N), N the number of steps to the cut."""
    record = rewards, next_values, terminated, truncated, discount

    def one(t):
        longest = len(steps_from(t, terminated, truncated))
        shorter = sum(
            (1 - gae_lambda) * gae_lambda ** (n - 1) * n_step_return(t, n, *record)
            for n in range(1, longest)
        )
        return shorter + gae_lambda ** (longest - 1) * n_step_return(t, longest, *record)

    return np.array([one(t) for t in range(len(rewards))])


def td_residuals(rewards, values, next_values, terminated, discount):
    """r_t + γ V(s_{t+1}) − V(s_t)."""
    discount = np.broadcast_to(discount, len(rewards))
    return np.array(
        [
            rewards[t] - values[t] + (0 if terminated[t] else discount[t] * next_values[t])
            for t in range(len(rewards))
        ]
    )


def gae(rewards, values, next_values, terminated, truncated, discount, gae_lambda):
    """Σ_l (Π γ) λ^l δ_{t+l} up to the cut."""
    discount = np.broadcast_to(discount, len(rewards))
    deltas = td_residuals(rewards, values, next_values, terminated, discount)
    return np.array(
        [
            sum(
                np.prod(discount[t:k]) * gae_lambda ** (k - t) * deltas[k]
                for k in steps_from(t, terminated, truncated)
            )
            for t in range(len(rewards))
        ]
    )
