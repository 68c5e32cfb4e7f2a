"""What every other folder uses: the record of a rollout, how modules split, errors, checks."""
