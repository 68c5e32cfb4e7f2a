"""Training: the configuration of a run, its loop, and many seeds of it."""
