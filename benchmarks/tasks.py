"""The tasks of the suite: how long each is trained, and between which returns a score lies.

python benchmarks/tasks.py Ant-v5 Swimmer-v5     # measures returns of random actions
"""

import sys
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


# Goals: PPO of rl-baselines3-zoo (benchmark.md: one tuned run, deterministic, v3), and where it
# has none that of Tianshou (examples/mujoco/README.md: ten seeds, the best evaluation within 1M
# steps, Humanoid-v3, InvertedDoublePendulum-v2 and Reacher-v2)
MUJOCO = {
    task.name: task
    for task in (
        Task("HalfCheetah-v5", 1_000_000, -270.8, 5819.0, tuned_on=True),
        Task("Hopper-v5", 1_000_000, 18.1, 2410.0, tuned_on=True),
        Task("Walker2d-v5", 1_000_000, 2.2, 3479.0, tuned_on=True),
        Task("Ant-v5", 1_000_000, -81.0, 1327.0, tuned_on=False),
        Task("Humanoid-v5", 1_000_000, 113.8, 787.0, tuned_on=False),
        Task("Swimmer-v5", 1_000_000, -0.5, 281.6, tuned_on=False),
        Task("InvertedDoublePendulum-v5", 1_000_000, 46.4, 9231.0, tuned_on=False),
        Task("Reacher-v5", 1_000_000, -42.7, -4.1, tuned_on=False),
    )
}
CLASSIC = {
    task.name: task
    for task in (
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
KNOWN = MUJOCO | CLASSIC | GAMES
GROUPS = {
    "default": ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", *CLASSIC),
    "mujoco": tuple(MUJOCO),
    "games": tuple(GAMES),
}


def named(names: list[str]) -> list[str]:
    """Tasks by their ids and by the names of groups, each once, in the order given."""
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def random_returns(name: str, episodes: int = 50) -> list[float]:
    """Returns of uniformly random actions in an environment of Gymnasium.

    Args:
        name: the id.
        episodes: how many; the environment and its action space start from the seed 0.
    """
    import gymnasium

    env, returns = gymnasium.make(name), []
    env.action_space.seed(0)
    for episode in range(episodes):
        env.reset(seed=0 if episode == 0 else None)
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        found = random_returns(argument)
        print(f"{argument}: {sum(found) / len(found):.1f} over {len(found)} episodes")
