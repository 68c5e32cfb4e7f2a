"""The public names, for type checkers: what `__init__.py` imports when it is first used."""

from policygrad import algorithms as algorithms
from policygrad import diagnostics as diagnostics
from policygrad import environments as environments
from policygrad import policies as policies
from policygrad import rollout as rollout
from policygrad import tabular as tabular
from policygrad import torch as torch
from policygrad.core import errors as errors
from policygrad.core import types as types
from policygrad.core.trajectories import Trajectories as Trajectories
from policygrad.doctor import Diagnosis as Diagnosis
from policygrad.doctor import Trial as Trial
from policygrad.doctor import diagnose as diagnose
from policygrad.doctor import diagnose_logs as diagnose_logs
from policygrad.doctor import try_advice as try_advice
from policygrad.evaluating import Evaluation as Evaluation
from policygrad.evaluating import evaluate as evaluate
from policygrad.evaluating import watch as watch
from policygrad.exporting import export as export
from policygrad.figures import curves as _curves
from policygrad.gradients import baselines as baselines
from policygrad.gradients import estimators as estimators
from policygrad.gradients import scores as scores
from policygrad.gradients.estimators import Estimator as Estimator
from policygrad.machines.remote import Remote as Remote
from policygrad.machines.remote import remote as remote
from policygrad.maths import advantages as advantages
from policygrad.maths import distributions as distributions
from policygrad.maths import returns as returns
from policygrad.policies import Agent as Agent
from policygrad.policies import ObservationNormaliser as ObservationNormaliser
from policygrad.policies import network_policy as network_policy
from policygrad.runs.policy_files import load as load
from policygrad.training import callbacks as callbacks
from policygrad.training.callbacks import STOP as STOP
from policygrad.training.callbacks import Stop as Stop
from policygrad.training.config import TrainConfig as TrainConfig
from policygrad.training.entry import resume as resume
from policygrad.training.entry import train as train
from policygrad.training.many_seeds import SeedRuns as SeedRuns
from policygrad.training.many_seeds import train_seeds as train_seeds
from policygrad.training.plan import read_config as read_config
from policygrad.training.result import Run as Run

networks = policies
plots = _curves

__version__: str
