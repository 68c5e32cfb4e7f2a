"""A Stable-Baselines3 run: how noisy its gradient is, and which advantages would point better.

pip install 'policygrad[torch]' stable-baselines3
python examples/sb3_measured.py
"""

import sys

from stable_baselines3 import PPO

from policygrad.torch import sb3

steps, episodes, folder = [*sys.argv[1:], 20_000, 500, "seen"][:3]
model = PPO("MlpPolicy", "CartPole-v1", seed=1, device="cpu").learn(int(steps))
measured = sb3.measure(model, "CartPole-v1", episodes=int(episodes))
scale = measured.noise.total.noise_scale
print(f"noise scale {scale.value:.0f} episodes [{scale.low:.0f}, {scale.high:.0f}]")
for name, x in measured.comparison.estimators.items():
    print(f"{name}: cosine {x.cosine.value:.2f} [{x.cosine.low:.2f}, {x.cosine.high:.2f}]")
print(measured.write_report(folder)[0])
