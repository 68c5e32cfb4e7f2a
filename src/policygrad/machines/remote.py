"""Workers that are asked for: `policygrad.remote(workers=4)`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, get_type_hints

from policygrad.core.settings import Count, In, Timeout, check_setting

if TYPE_CHECKING:
    from policygrad.machines.places import RayPlaces


@dataclass(frozen=True)
class Remote:
    """Workers of Ray's, on this machine or on a cluster. No number of a run depends on them.

    Args:
        workers: their number.
        address: of a Ray cluster, `host:port`; None for the environment variable RAY_ADDRESS, or
            else for workers on this machine, which end with the run.
        worker_timeout: seconds after which a worker that has not answered counts as dead, its start
            and compilation included; None for no limit.
        cpus_per_worker: CPUs that each asks Ray for. Less than 1 lets workers share one, where
            environments wait more than they compute.

    Raises:
        UserError: a value that is out of range.
    """

    workers: Count
    address: str | None = None
    worker_timeout: Timeout | None = None
    cpus_per_worker: Annotated[float, In(0.001, 1024)] = 1.0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            check_setting("ray" if name == "address" else name, kind, getattr(self, name))

    def places(self) -> "RayPlaces":
        """Where the blocks of a run are collected."""
        from policygrad.machines.places import RayPlaces

        return RayPlaces(self)


remote = Remote
