"""Runs on disk: the directory, its checkpoints and policies, and other places for metrics."""

from policygrad.runs.directory import MetricsFile, RunDirectory, fresh_directory, seed_directories

__all__ = ["MetricsFile", "RunDirectory", "fresh_directory", "seed_directories"]
