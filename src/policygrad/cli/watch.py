"""`policygrad watch`: a video of a policy that acts."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from policygrad.cli.commands import Json, RunPath, only_json, parse_kwargs, print_json
from policygrad.cli.evaluate import KWARGS_HELP, WRAPPER_HELP, imported
from policygrad.cli.progress import LINE_SECONDS
from policygrad.core.shell import user_path
from policygrad.devices.starting import prepare_jax

OUT_HELP = (
    "The file to write, .mp4 (extra: video) or .gif; one that is there is replaced. Default: "
    "watch.mp4 in the run's directory."
)
LENGTH_HELP = "Greatest length of an episode. Default: the environment's limit, or 10000."
GREEDY_HELP = "Act by the mode of the policy's distribution, in place of samples."


def watch(
    run: Positional[RunPath],
    env: Annotated[str | None, arg(help="Where it acts. Default: the run's own.")] = None,
    env_kwargs: Annotated[str | None, arg(help=KWARGS_HELP)] = None,
    wrapper: Annotated[UseAppendAction[list[str]], arg(metavar="M:C", help=WRAPPER_HELP)] = [],  # noqa: B006
    episodes: Annotated[int, arg(help="Episodes, one after the other.")] = 1,
    deterministic: Annotated[bool, arg(help=GREEDY_HELP)] = False,
    seed: Annotated[int, arg(help="Seed of the environment and of the sampled actions.")] = 0,
    max_episode_steps: Annotated[int | None, arg(help=LENGTH_HELP)] = None,
    fps: Annotated[
        float | None, arg(help="Pictures a second. Default: the environment's own.")
    ] = None,
    out: Annotated[Path | None, arg(help=OUT_HELP, metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Write a video of a policy that acts, beside what it is paid and how sure it is."""
    kwargs = None if env_kwargs is None else parse_kwargs(env_kwargs)
    prepare_jax()
    from policygrad import evaluating

    with only_json(json):
        watched = evaluating.watch(
            user_path(run), env, out=out, episodes=episodes, deterministic=deterministic,
            seed=seed, max_episode_steps=max_episode_steps, env_kwargs=kwargs,
            wrappers=[imported(name) for name in wrapper], fps=fps, on_step=_Progress(),
        )  # fmt: skip
    if json:
        print_json(watched.to_json())
        return 0
    returns = ", ".join(f"{value:.4g}" for value in watched.returns)
    print(f"{watched.path}: {watched.env}, {watched.way}, returns {returns}")
    return 0


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._told = time.perf_counter()

    def __call__(self, told: Any) -> None:
        now = time.perf_counter()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            print(
                f"episode {told.episode + 1}, {told.steps:,} steps, paid {told.paid:.4g}",
                file=sys.stderr,
            )
