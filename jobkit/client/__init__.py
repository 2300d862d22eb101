"""The client: `Kit` submits and finds jobs; `Job` and `Batch` are live handles."""

from jobkit.client.batch import Batch
from jobkit.client.completion import as_completed, wait
from jobkit.client.job import Job
from jobkit.client.kit import AioKit, Kit
from jobkit.client.submit import BoundKit

__all__ = ["AioKit", "Batch", "BoundKit", "Job", "Kit", "as_completed", "wait"]
