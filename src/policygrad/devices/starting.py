"""Settings made before JAX starts: how many devices it shows, and where programs are kept.

JAX is imported inside of the functions, since XLA reads some settings as it is loaded.
"""

import contextlib
import hashlib
import os
import platform
from pathlib import Path


def processors_allowed() -> int:
    """How many processors this process may use."""
    # only Linux reports which ones
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return len(allowed) if allowed else os.cpu_count() or 1


def show_processors() -> None:
    """Have JAX show a CPU device for every processor that this process may use.

    Nothing happens if the user has set the number of devices, by `jax_num_cpu_devices` or by XLA's
    flag, or if JAX has already begun to compute.
    """
    import jax

    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or jax.config.jax_num_cpu_devices >= 0:  # pyright: ignore[reportAttributeAccessIssue]
        return
    with contextlib.suppress(RuntimeError):  # it has begun
        jax.config.update("jax_num_cpu_devices", processors_allowed())


def prepare_jax() -> None:
    """Prepare JAX for a command: show the processors as devices, and keep compiled programs for the
    next command, unless the user has set the cache directory."""
    # when it loads the cache, XLA warns of tuning flags that are not features of the processor;
    # "1" is what JAX sets as it is imported, and what a command inherits from a Python program
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import jax

    show_processors()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "policygrad" / f"jax-{jax.__version__}-{cpu_fingerprint()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cpu_fingerprint() -> str:
    """A name for this kind of processor, because different machines may share a home directory."""
    flags = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:12]
