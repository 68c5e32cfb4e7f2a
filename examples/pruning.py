"""Pruning: Optuna ends the trials that fall behind, and the policy of each is on disk.

pip install optuna
python examples/pruning.py [steps of a trial]
"""

import sys

import optuna

import policygrad


def objective(trial: optuna.Trial) -> float:
    """The mean return of a run with the step size that Optuna suggests."""

    def prune(run):
        if run["return_mean"] is not None:
            trial.report(run["return_mean"], run["update"])
        if trial.should_prune():
            raise optuna.TrialPruned  # the run is saved, then this comes out of train

    step_size = trial.suggest_float("step_size", 1e-4, 1e-2, log=True)
    run = policygrad.train("CartPole-v1", step_size=step_size, total_steps=STEPS, on_update=prune)
    return run.summary["return_mean"]


STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
study.optimize(objective, n_trials=6)
print("best:", study.best_value, study.best_params)
