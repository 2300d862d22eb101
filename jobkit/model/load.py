"""Use of processor, memory and GPUs over the last minutes, as small charts: a worker samples it, pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobkit.model.plain import Record

#: Digits of a `Spark`: the height of a point, from nothing to the top.
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

#: Maximum number of points of a `Spark`.
POINTS = 60


class Spark(Record, frozen=True):
    """A curve of at most 60 points that is shown some 20 pixels high.

    Attributes:
        last: the newest value. top: the largest one.
        shape: a base-36 digit for each point, oldest first; "z" is at `top`, or at 100 % of a curve that stays below.
    """

    last: float = 0
    top: float = 0
    shape: str = ""

    @classmethod
    def of(cls, values: Sequence[float], least_top: float = 0) -> Spark:
        """Return the curve of the last of some values, which are not negative."""
        shown = list(values)[-POINTS:]
        top = max(shown, default=0.0)
        axis = max(top, least_top)
        shape = "".join(_DIGITS[round(35 * value / axis) if axis else 0] for value in shown)
        return cls(shown[-1] if shown else 0, top, shape)


class Usage(Record, frozen=True):
    """Use of a job's processes, or of a worker with its jobs. `cpu`: % of one core. `memory`: MiB."""

    cpu: Spark = Spark()
    memory: Spark = Spark()


class GpuUsage(Record, frozen=True):
    """Use of one GPU by everybody. `index`: as its driver counts. `load`: %. `memory`, `total`: MiB."""

    name: str
    index: int = 0
    total: float = 0
    load: Spark = Spark()
    memory: Spark = Spark()


class WorkerLoad(Record, frozen=True):
    """Use of a worker over the last minutes.

    Attributes:
        step_s: seconds between two points.
        whole: of the worker's process and its jobs. Memory that processes share counts for each.
        jobs: of the running jobs that have a process, by id; of the 32 that run longest.
        gpus: of the GPUs that the worker may use.
    """

    step_s: float = 5.0
    whole: Usage = Usage()
    jobs: Mapping[str, Usage] = {}
    gpus: tuple[GpuUsage, ...] = ()
