"""A tool and a force at once; broken tools are masked, and infos tell which part succeeded."""

import gymnasium as gym

import policygrad

TOOL, FORCE = gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (1,))


class Workshop(gym.Env):
    action_space = gym.spaces.Dict(tool=TOOL, force=FORCE)
    mask = gym.spaces.Dict(tool=gym.spaces.MultiBinary(3))  # for a part of the action
    observation_space = gym.spaces.Dict(tool=TOOL, force=FORCE, action_mask=mask)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # each episode has one step
        tool, force = self.np_random.integers(3), self.np_random.uniform(-1, 1, 1)
        flags = [i != (tool + 1) % 3 for i in range(3)]
        self.wanted = {"tool": tool, "force": force, "action_mask": {"tool": flags}}
        return self.wanted, {}

    def step(self, action):
        right = action["tool"] == self.wanted["tool"]
        near = 1 - abs(action["force"] - self.wanted["force"])[0]
        return self.wanted, right + near, True, False, {"right": right, "near": near}


if __name__ == "__main__":
    run = policygrad.train(Workshop, algorithm="ppo", total_steps=60_000)
    print(policygrad.evaluate(run).deterministic.infos)
