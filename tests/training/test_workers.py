"""Seeds in worker processes: what comes back of them."""

import policygrad
from policygrad.training.assembly import Task
from policygrad.training.resolve import Given
from policygrad.training.workers import SideBySide
from tests.worlds import TINY


def test_run_of_a_worker_remembers_the_arguments_of_its_environment(tmp_path):
    kwargs = {"max_episode_steps": 9}
    run = policygrad.train(
        "Pendulum-v1", env_kwargs=kwargs, out=tmp_path / "seed-0", seed=0, **TINY
    )
    workers = SideBySide(
        task=Task("Pendulum-v1", kwargs), given=Given(), configs=[run.config], out=tmp_path, jobs=1,
        on_update=None,
    )  # fmt: skip
    assert workers._run(run.config, tmp_path / "seed-0").env_kwargs == kwargs
