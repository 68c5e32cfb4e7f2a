"""Logs of other libraries."""
