"""The client: `Kit` submits and finds jobs, `Job` is a live handle to one."""

from jobkit.client.job import Job
from jobkit.client.kit import AioKit, BoundKit, Kit

__all__ = ["AioKit", "BoundKit", "Job", "Kit"]
