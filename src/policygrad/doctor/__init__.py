"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

from policygrad.doctor.diagnosis import diagnose, examine
from policygrad.doctor.of_logs import diagnose_logs
from policygrad.doctor.result import Diagnosis

__all__ = ["Diagnosis", "diagnose", "diagnose_logs", "examine"]
