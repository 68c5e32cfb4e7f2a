"""The policy gradient: scores, estimators and the baselines that they subtract."""
