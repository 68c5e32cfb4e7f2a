"""The tasks of the suite: how long each is trained, and between which returns a score lies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One environment id of Gymnasium.

    Attributes:
        name: the id.
        steps: environment steps of training.
        random: mean return of uniformly random actions, over 50 episodes: the score 0.
        goal: the return of score 1. On MuJoCo that of tuned PPO, elsewhere what counts as solved.
        tuned_on: the defaults were chosen with this task in sight.
    """

    name: str
    steps: int
    random: float
    goal: float
    tuned_on: bool

    def score(self, value: float) -> float:
        """A return as a share of the way from random actions to the goal."""
        return (value - self.random) / (self.goal - self.random)


TASKS = {
    task.name: task
    for task in (
        Task("HalfCheetah-v5", 1_000_000, -270.8, 5819.0, tuned_on=True),
        Task("Hopper-v5", 1_000_000, 18.1, 2410.0, tuned_on=True),
        Task("Walker2d-v5", 1_000_000, 2.2, 3479.0, tuned_on=True),
        Task("Pendulum-v1", 250_000, -1200.7, -200.0, tuned_on=True),
        Task("CartPole-v1", 100_000, 26.5, 475.0, tuned_on=True),
        Task("CartPole-v0", 75_000, 26.5, 195.0, tuned_on=False),
        Task("Acrobot-v1", 250_000, -500.0, -100.0, tuned_on=False),
    )
}

# MinAtar's games of pictures. The goal is what the PPO of gymnax-blines reaches after 3 million
# steps, read off its learning curves (docs/lcurves.png there, one seed, step size 1e-3)
GAMES = {
    task.name: task
    for task in (
        Task("gymnax/Asterix-MinAtar", 3_000_000, 0.4, 7.0, tuned_on=False),
        Task("gymnax/Breakout-MinAtar", 3_000_000, 0.4, 20.0, tuned_on=False),
        Task("gymnax/Freeway-MinAtar", 3_000_000, 0.4, 44.0, tuned_on=False),
        Task("gymnax/SpaceInvaders-MinAtar", 3_000_000, 4.2, 95.0, tuned_on=False),
    )
}
KNOWN = TASKS | GAMES
