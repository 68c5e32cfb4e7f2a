"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

from policygrad.doctor.diagnosis import Diagnosis, diagnose, examine

__all__ = ["Diagnosis", "diagnose", "examine"]
