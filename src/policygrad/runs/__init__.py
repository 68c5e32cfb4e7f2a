"""Runs on disk: the directory, its checkpoints and policies, and other places for metrics."""

from policygrad.runs.directory import RunDirectory, fresh_directory, seed_directories
from policygrad.runs.rows import MetricsFile

__all__ = ["MetricsFile", "RunDirectory", "fresh_directory", "seed_directories"]
