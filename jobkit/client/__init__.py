"""The client: `Kit` submits and finds jobs, `Job` is a live handle to one."""

from jobkit.client.aio import AioKit
from jobkit.client.bound import BoundKit
from jobkit.client.job import Job
from jobkit.client.kit import Kit

__all__ = ["AioKit", "BoundKit", "Job", "Kit"]
