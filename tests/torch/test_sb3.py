"""A Stable-Baselines3 model in three lines: right gradients, right advantages, refusals."""

import json

import gymnasium
import numpy as np
import pytest

from policygrad.core.errors import UserError

torch = pytest.importorskip("torch")
stable_baselines3 = pytest.importorskip("stable_baselines3")

from benchmarks.torch_gradients import largest_distance  # noqa: E402
from policygrad.torch import sb3  # noqa: E402
from policygrad.torch.measuring import Stream  # noqa: E402
from tests.slow import params  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return stable_baselines3.PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu", n_steps=256)


@pytest.mark.parametrize(
    "env", params({"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1", "hopper": "Hopper-v5"},
                  {"hopper"}),
)  # fmt: skip
def test_gradients_are_those_of_a_loop_of_backward(env):
    kind = stable_baselines3.A2C if env == "Pendulum-v1" else stable_baselines3.PPO
    model = kind("MlpPolicy", env, seed=0, device="cpu")
    (record,) = sb3.collect(model, env, 12)
    psi = Stream(sb3.policy_of(model), sb3.candidates_of(model)).weights(record)[0]
    assert largest_distance(sb3.policy_of(model), record, psi) < 1e-5


def test_advantages_in_use_are_those_of_its_rollout_buffer(model):
    from stable_baselines3.common.buffers import RolloutBuffer

    (record,) = sb3.collect(model, "CartPole-v1", 5)
    psi = Stream(sb3.policy_of(model), sb3.candidates_of(model)).weights(record)[0]
    for i in range(5):
        n = int(record.valid[:, i].sum())
        spaces = model.observation_space, model.action_space
        buffer = RolloutBuffer(n, *spaces, "cpu", model.gae_lambda, model.gamma)
        seen = torch.as_tensor(record.observations[:n, i])
        with torch.no_grad():
            values = model.policy.predict_values(seen)
        for t in range(n):
            buffer.add(
                seen[t : t + 1].numpy(), record.actions[t, i][None], record.rewards[t, i][None],
                np.array([t == 0]), values[t], torch.zeros(1),
            )  # fmt: skip
        buffer.compute_returns_and_advantage(torch.zeros(1), np.array([True]))
        np.testing.assert_allclose(psi[:n, i], buffer.advantages[:, 0], rtol=1e-4, atol=1e-4)


def test_three_lines(model, tmp_path):
    before = {k: x.clone() for k, x in model.policy.state_dict().items()}
    measured = sb3.measure(model, "CartPole-v1", episodes=40, decompose=True)
    page, *others = measured.write_report(tmp_path)
    assert set(measured.comparison.estimators) >= {"in use", "with baseline", "gae_lambda=0.5"}
    assert measured.comparison.reference == "with baseline"
    assert measured.comparison.batch_episodes == round(256 / measured.lengths.mean())
    assert measured.noise.episodes == len(measured.returns) == 40
    assert sum(x.parameters for x in measured.noise.parts.values()) == 4610
    assert not any("value" in name for name in measured.noise.parts)
    assert "Healthy" not in page.read_text()
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert "healthy" not in numbers
    assert numbers["examination"]["decomposition"]["total"]["variance"]["value"] > 0
    assert len(others) == 5
    for k, x in model.policy.state_dict().items():
        assert torch.equal(x, before[k])


def test_the_same_seed_gives_the_same_episodes_whatever_the_lanes(model):
    a, b = (next(sb3.collect(model, "CartPole-v1", 8, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(a.observations, b.observations)
    other = next(sb3.collect(model, "CartPole-v1", 8, seed=4))
    assert not np.array_equal(a.observations[0], other.observations[0])
    one = next(sb3.collect(model, gymnasium.make("CartPole-v1"), 8, seed=3))
    np.testing.assert_array_equal(a.observations[0], one.observations[0])  # resets


def test_sketched(model):
    full = sb3.measure(model, "CartPole-v1", episodes=60)
    found = sb3.measure(model, "CartPole-v1", episodes=60, sketch_width=400)
    assert found.noise.total.parameters == 4610
    for name in ("variance", "squared_norm"):
        ours, exact = (getattr(x.noise.total, name) for x in (found, full))
        assert ours.low < exact.value < ours.high
    with pytest.raises(UserError, match="full gradients"):
        sb3.measure(model, "CartPole-v1", episodes=4, sketch_width=400, decompose=True)


def test_what_a_normaliser_of_the_model_s_does_is_done():
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    lanes = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    model = stable_baselines3.PPO("MlpPolicy", lanes, n_steps=64, device="cpu").learn(64)
    (record,) = sb3.collect(model, "CartPole-v1", 3)
    raw, _ = gymnasium.make("CartPole-v1").reset(
        seed=int(np.random.SeedSequence([0, 0]).generate_state(1)[0])
    )
    np.testing.assert_allclose(record.observations[0, 0], lanes.normalize_obs(raw), rtol=1e-5)
    assert record.rewards[0, 0] == pytest.approx(lanes.normalize_reward(np.ones(1))[0], rel=1e-5)


class Seen(gymnasium.Env):
    """Episodes of five steps with observations of any space."""

    def __init__(self, space):
        self.observation_space, self.action_space = space, gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(action), self.steps == 5, False, {}


def test_observations_that_are_made_one_hot_are_measured():
    spaces = gymnasium.spaces
    number = spaces.Discrete(3)
    for space in (
        number,
        spaces.MultiDiscrete([3, 4]),
        spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": number}),
    ):
        name = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
        model = stable_baselines3.PPO(name, Seen(space), seed=0, device="cpu", n_steps=64)
        measured = sb3.measure(model, lambda space=space: Seen(space), episodes=8)
        assert measured.noise.total.variance.value > 0


def test_the_policy_is_measured_as_it_acts_and_left_as_it_was(model):
    model.policy.extra = torch.nn.Dropout(0.5)
    try:
        model.policy.train()
        assert sb3.measure(model, "CartPole-v1", episodes=4).noise.episodes == 4
        assert model.policy.training
        assert model.policy.extra.training
    finally:
        del model.policy.extra


class Masked(stable_baselines3.common.policies.ActorCriticPolicy):
    """With the signature of sb3-contrib's MaskablePPO, which acts by the environment's masks."""

    def get_distribution(self, obs, action_masks=None):
        return super().get_distribution(obs)


class Recurrent(stable_baselines3.common.policies.ActorCriticPolicy):
    """With the signature of sb3-contrib's RecurrentPPO."""

    def get_distribution(self, obs, lstm_states, episode_starts):
        return super().get_distribution(obs), lstm_states


class Tempered(stable_baselines3.common.policies.ActorCriticPolicy):
    """An option that training leaves as it is."""

    def get_distribution(self, obs, temperature=1.0, **others):
        return super().get_distribution(obs)


def test_a_policy_that_reads_more_than_the_observation_is_refused():
    def of(kind):
        return stable_baselines3.PPO(kind, "CartPole-v1", seed=0, device="cpu", n_steps=64)

    with pytest.raises(UserError, match=r"of PPO reads action_masks beside .*TorchPolicy"):
        sb3.measure(of(Masked), "CartPole-v1", episodes=4)
    with pytest.raises(UserError, match="reads lstm_states and episode_starts beside"):
        sb3.measure(of(Recurrent), "CartPole-v1", episodes=4)
    assert sb3.measure(of(Tempered), "CartPole-v1", episodes=4).noise.episodes == 4


def test_refusals(model):
    dqn = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    with pytest.raises(UserError, match="DQN has no policy gradient; give a PPO or A2C"):
        sb3.measure(dqn, "CartPole-v1")
    with pytest.raises(UserError, match=r"observation_space is Box.*of the environment is Box"):
        sb3.measure(model, "Acrobot-v1")
    with pytest.raises(UserError, match="episodes must be a whole number, at least 2, got 1"):
        sb3.measure(model, "CartPole-v1", episodes=1)
    with pytest.raises(UserError, match="did not end within 3 steps"):
        sb3.measure(model, "CartPole-v1", episodes=4, max_steps=3)
    with pytest.raises(UserError, match="a VecEnv's environments are not taken"):
        sb3.measure(model, model.get_env())
    noisy = stable_baselines3.PPO("MlpPolicy", "Pendulum-v1", use_sde=True, device="cpu")
    with pytest.raises(UserError, match="use_sde=True"):
        sb3.measure(noisy, "Pendulum-v1")
