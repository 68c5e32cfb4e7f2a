"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

from policygrad.doctor.advising import try_advice
from policygrad.doctor.diagnosis import diagnose, examine
from policygrad.doctor.of_logs import diagnose_logs
from policygrad.doctor.result import Diagnosis
from policygrad.doctor.trying import Trial

__all__ = ["Diagnosis", "Trial", "diagnose", "diagnose_logs", "examine", "try_advice"]
