"""Seeds in worker processes: what comes back of them."""

import policygrad
from policygrad.training.workers import SideBySide
from tests.worlds import TINY


def test_run_of_a_worker_remembers_the_arguments_of_its_environment(tmp_path):
    kwargs = {"max_episode_steps": 9}
    run = policygrad.train(
        "Pendulum-v1", env_kwargs=kwargs, out=tmp_path / "seed-0", seed=0, **TINY
    )
    objects = (None, None, None, kwargs)
    workers = SideBySide("Pendulum-v1", [run.config], objects, tmp_path, 1, None)
    assert workers._run(run.config, tmp_path / "seed-0").env_kwargs == kwargs
