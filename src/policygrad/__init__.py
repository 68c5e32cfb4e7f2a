"""Policy gradients on JAX: train, measure and prove them.

    import policygrad

    run = policygrad.train("CartPole-v1", seed=1)
    print(policygrad.evaluate(run).stochastic.mean)

The names below are the public ones. They are imported when first used, so that `import policygrad`
is quick and `policygrad --help` loads no numerical library at all.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from typing import Any

__version__ = "0.2.0"  # the one place: pyproject.toml and the site read it here

# public name -> the module that holds it; `__init__.pyi` shows the same names to type checkers
NAMES = {
    "Agent": "policies",
    "Diagnosis": "doctor",
    "Estimator": "gradients.estimators",
    "Evaluation": "evaluating",
    "ObservationNormaliser": "policies",
    "Run": "training.result",
    "STOP": "training.callbacks",
    "SeedRuns": "training.many_seeds",
    "Stop": "training.callbacks",
    "TrainConfig": "training.config",
    "Trajectories": "core.trajectories",
    "Trial": "doctor",
    "diagnose": "doctor",
    "diagnose_logs": "doctor",
    "evaluate": "evaluating",
    "export": "exporting",
    "load": "runs.policy_files",
    "network_policy": "policies",
    "Remote": "machines.remote",
    "read_config": "training.plan",
    "remote": "machines.remote",
    "resume": "training.entry",
    "train": "training.entry",
    "train_seeds": "training.many_seeds",
    "try_advice": "doctor",
    "watch": "evaluating",
}
# public module -> where it is: `policygrad.returns` is `policygrad.maths.returns`
MODULES = {
    "advantages": "maths.advantages",
    "algorithms": "algorithms",
    "baselines": "gradients.baselines",
    "callbacks": "training.callbacks",
    "diagnostics": "diagnostics",
    "distributions": "maths.distributions",
    "environments": "environments",
    "errors": "core.errors",
    "estimators": "gradients.estimators",
    "networks": "policies",
    "plots": "figures.curves",
    "policies": "policies",
    "returns": "maths.returns",
    "rollout": "rollout",
    "scores": "gradients.scores",
    "tabular": "tabular",
    "torch": "torch",
    "types": "core.types",
}

__all__ = ["__version__", *NAMES, *MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(importlib.import_module(f"{__name__}.{NAMES[name]}"), name)
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{MODULES[name]}")
    from policygrad.core.elsewhere import no_attribute

    raise no_attribute("module 'policygrad'", name, _hints())


def _hints() -> dict[str, str]:
    """Names that are looked for here -> where they are, or what there is in their place."""
    from policygrad.core import elsewhere, errors

    places = {name: f"it is policygrad.errors.{name}" for name in dir(errors) if name[0].isupper()}
    return {**elsewhere.FUNCTIONS, **places}


def __dir__() -> list[str]:
    return sorted(__all__)


class _PublicModules:
    """Lets `import policygrad.returns` find the module where it is."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, public = name.rpartition(".")
        if package != __name__:
            return None
        if hint := _hints().get(public):  # `from policygrad import PPO` looks for a module last
            raise ImportError(f"policygrad has no {public}; {hint}", name=name)
        if MODULES.get(public, public) == public:
            return None
        return importlib.machinery.ModuleSpec(name, _PublicModules)  # pyright: ignore

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: Any) -> None:
        public = module.__name__.rpartition(".")[2]
        sys.modules[module.__name__] = importlib.import_module(f"{__name__}.{MODULES[public]}")


sys.meta_path.append(_PublicModules)
