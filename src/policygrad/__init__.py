"""Policy gradients on JAX: train, measure and prove them.

    import policygrad

    run = policygrad.train("CartPole-v1", seed=1)
    print(policygrad.evaluate(run).stochastic.mean)

The names below are the public ones. They are imported when first used, so that `import policygrad`
is quick and `policygrad --help` loads no numerical library at all.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "Agent": "policygrad.policies",
    "Diagnosis": "policygrad.doctor",
    "Estimator": "policygrad.estimators",
    "Evaluation": "policygrad.evaluation",
    "ObservationNormaliser": "policygrad.networks",
    "Run": "policygrad.session",
    "SeedRuns": "policygrad.seeds",
    "TrainConfig": "policygrad.config",
    "Trajectories": "policygrad.types",
    "diagnose": "policygrad.doctor",
    "evaluate": "policygrad.evaluation",
    "load": "policygrad.saved",
    "network_policy": "policygrad.policies",
    "resume": "policygrad.training",
    "train": "policygrad.training",
    "train_seeds": "policygrad.seeds",
}
_MODULES = (
    "advantages",
    "algorithms",
    "baselines",
    "diagnostics",
    "distributions",
    "environments",
    "errors",
    "estimators",
    "networks",
    "plots",
    "policies",
    "returns",
    "rollout",
    "scores",
    "tabular",
    "types",
)

__all__ = ["__version__", *_NAMES, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from policygrad import (
        advantages as advantages,
    )
    from policygrad import (
        algorithms as algorithms,
    )
    from policygrad import (
        baselines as baselines,
    )
    from policygrad import (
        diagnostics as diagnostics,
    )
    from policygrad import (
        distributions as distributions,
    )
    from policygrad import (
        environments as environments,
    )
    from policygrad import (
        errors as errors,
    )
    from policygrad import (
        estimators as estimators,
    )
    from policygrad import (
        networks as networks,
    )
    from policygrad import (
        plots as plots,
    )
    from policygrad import (
        policies as policies,
    )
    from policygrad import (
        returns as returns,
    )
    from policygrad import (
        rollout as rollout,
    )
    from policygrad import (
        scores as scores,
    )
    from policygrad import (
        tabular as tabular,
    )
    from policygrad import (
        types as types,
    )
    from policygrad.config import TrainConfig as TrainConfig
    from policygrad.doctor import Diagnosis as Diagnosis
    from policygrad.doctor import diagnose as diagnose
    from policygrad.estimators import Estimator as Estimator
    from policygrad.evaluation import Evaluation as Evaluation
    from policygrad.evaluation import evaluate as evaluate
    from policygrad.networks import ObservationNormaliser as ObservationNormaliser
    from policygrad.policies import Agent as Agent
    from policygrad.policies import network_policy as network_policy
    from policygrad.saved import load as load
    from policygrad.seeds import SeedRuns as SeedRuns
    from policygrad.seeds import train_seeds as train_seeds
    from policygrad.session import Run as Run
    from policygrad.training import resume as resume
    from policygrad.training import train as train
    from policygrad.types import Trajectories as Trajectories


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"policygrad.{name}")
    raise AttributeError(f"module 'policygrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
