"""Signals to all processes of a run."""

import signal
import subprocess
import sys

import pytest

from policygrad.processes.signals import SENT_TO_ALL, signal_name, signals_wait

MASK = "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (63, "63")])
def test_signals_have_names(number, name):
    assert signal_name(number) == name


def test_signals_are_kept_from_what_is_started():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with signals_wait():
        kept = subprocess.run([sys.executable, "-c", MASK], capture_output=True, text=True)
    assert set(map(int, kept.stdout.split())) >= set(SENT_TO_ALL)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
