"""What workers report as they go on, and what they are asked meanwhile."""

from typing import Any


class Channel:
    """A small actor between workers and the process that asked them, which looks at it at times."""

    def __init__(self) -> None:
        self._reports: list[Any] = []
        self._request: str | None = None

    def report(self, report: Any) -> str | None:
        """Leave a report; returns what all workers are asked, if anything."""
        self._reports.append(report)
        return self._request

    def ask(self, request: str) -> None:
        """Leave a request for all workers."""
        self._request = request

    def take(self) -> list[Any]:
        """The reports since the last time."""
        reports, self._reports = self._reports, []
        return reports


def open_channel(ray: Any) -> Any:
    """A channel, which takes no CPU and begins anew where it dies."""
    return ray.remote(Channel).options(num_cpus=0, max_restarts=-1).remote()
