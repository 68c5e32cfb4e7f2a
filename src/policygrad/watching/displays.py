"""Drawing on a machine without a display."""

import os
import subprocess
import sys
from functools import cache

from policygrad.core.errors import UserError

BACKENDS = ("egl", "osmesa")
TRY = "from mujoco.{} import GLContext as C; c = C(64, 64); c.make_current(); c.free()"


def draw_without_a_display() -> None:
    """Let what draws with pygame draw into memory if there is no display. A user's own choice
    stands."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would be printed on stdout
    if not _has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def choose_mujoco_backend() -> None:
    """Let MuJoCo draw with what works here, if it was imported and there is no display.

    Raises:
        UserError: nothing works.
    """
    if "mujoco" not in sys.modules or _has_display() or os.environ.get("MUJOCO_GL"):
        return
    for backend in BACKENDS:
        if _works(backend):
            os.environ["MUJOCO_GL"] = backend
            return
    raise UserError(
        "MuJoCo cannot draw here: there is no display, and neither EGL nor OSMesa works; install "
        "one of them (libegl1, or libosmesa6), or set MUJOCO_GL to what this machine has"
    )


@cache
def _works(backend: str) -> bool:
    """Whether MuJoCo draws with a backend, tried in another process: a failure may end it."""
    asked = {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TRY.format(backend)],
            env={**os.environ, **asked}, capture_output=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
