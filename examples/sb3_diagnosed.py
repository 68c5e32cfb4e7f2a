"""A run of Stable-Baselines3 with a fault, and what its logs say of it: sb3_diagnosed.py [FOLDER].

Needs: pip install stable-baselines3 policygrad
"""

import sys

from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

import policygrad

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/sb3"
model = PPO("MlpPolicy", "CartPole-v1", learning_rate=0.03, seed=0)  # a hundred times the default
model.set_logger(configure(folder, ["csv"]))
model.learn(20_000)
diagnosis = policygrad.diagnose_logs(folder, settings={"gamma": model.gamma})
for finding in diagnosis.findings:
    print(finding.cause, finding.evidence, finding.change, sep="\n  ")
print("not looked at:", ", ".join(rule.name for rule in diagnosis.not_looked_at))
