"""Definition of a pool: what its workers are, how many there may be, and how the store keeps it (sealed)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobkit.codec import RAW, Codec, Subject
from jobkit.features.pools.launcher import checked_options
from jobkit.model import InvalidParams, SignatureError
from jobkit.model.format import bytes_in, duration
from jobkit.settings import checked_name
from jobkit.tasks import option_values

#: Largest number of workers of a pool, and of jobs that one of them runs at a time.
MAX_WORKERS, MAX_SLOTS = 1_000, 1_000

_MAX_TEXT = 10_000


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Definition of a pool.

    Attributes:
        engine: one of `jobkit.features.pools.launcher.ENGINES`; `options` are its own.
        queues: that its workers serve, in this order.
        max, min: largest and smallest number of workers.
        idle_s: a worker without jobs ends after so many seconds.
        walltime_s: its engine ends a worker after so many seconds; 0 for no limit.
        slots, resources, tasks: of each worker, see `jobkit worker`.
        setup, python: see `WorkerOrder`.
    """

    name: str
    engine: str
    queues: tuple[str, ...]
    max: int
    min: int = 0
    idle_s: float = 600.0
    walltime_s: float = 0.0
    slots: int = 1
    resources: Mapping[str, float] = {}
    tasks: tuple[str, ...] = ()
    setup: str = ""
    python: str = ""
    options: Mapping[str, Any] = {}

    @property
    def sentence(self) -> str:
        """Return "0 to 20 workers on slurm for queue gpu, 1 job at a time each, idle ones end after 10 min"."""
        queues = f"queue{'s' if len(self.queues) > 1 else ''} {', '.join(self.queues)}"
        jobs = f"{self.slots} job{'s' if self.slots > 1 else ''} at a time each"
        walltime = f", each for at most {duration(self.walltime_s)}" if self.walltime_s else ""
        return (
            f"{self.min} to {self.max} workers on {self.engine} for {queues}, {jobs}{walltime}; idle ones end after "
            f"{duration(self.idle_s)}"
        )

    def sealed(self, codec: Codec) -> bytes:
        """Return the definition as the store keeps it. Raises InvalidParams without a key: it decides what runs."""
        if not codec.has_key:
            raise InvalidParams("pools start programs, so they need a signing key: set JOBKIT_SECRET", "secret")
        return codec.seal(RAW, msgspec.json.encode(self), _subject(self.name))


def read_pool(name: str, sealed: bytes, codec: Codec) -> PoolSpec:
    """Return a definition from the store.

    Raises:
        SignatureError: it was not sealed for this name with a key that we hold, or is of a later version.
    """
    try:
        _, body = codec.verify(sealed, _subject(name))
        return msgspec.json.decode(body, type=PoolSpec)
    except SignatureError:
        raise SignatureError(
            f"the definition of pool {name} was not signed with the JOBKIT_SECRET of this process"
        ) from None
    except msgspec.MsgspecError as error:
        raise SignatureError(f"the definition of pool {name} is of another version of jobkit: {error}") from None


def _subject(name: str) -> Subject:
    return Subject("pool", "", name)


def pool_spec(name: str, **given: Any) -> PoolSpec:
    """Return the checked definition of `kit.pool(name, ...)`, `jobkit pools add` or `[tool.jobkit.pools]`.

    Raises:
        InvalidParams: a value is not allowed; the message names it.
    """
    given = {key: value for key, value in given.items() if value is not None}
    checked_pool_name(name)
    for needed in ("on", "max"):
        if needed not in given:
            raise InvalidParams(f"pool {name} needs {needed}=", needed)
    engine = given.pop("on")
    values = {_FIELDS[key][0]: _FIELDS[key][1](key, given.pop(key)) for key in list(given) if key in _FIELDS}
    options = msgspec.to_builtins(checked_options(engine, given))
    spec = PoolSpec(**{"name": name, "engine": engine, "queues": (name,), "options": options, **values})
    if spec.min > spec.max:
        raise InvalidParams(f"min must not be above max: got min={spec.min} and max={spec.max}", "min")
    return spec


def checked_pool_name(name: object) -> str:
    """Return a valid name of a pool: as that of a queue, at most 60 characters. Raises InvalidParams."""
    text = checked_name("pool", name)
    if len(text) > 60:
        raise InvalidParams(f"the name of a pool has at most 60 characters, not {len(text)}", "pool")
    return text


def _queues(name: str, value: Any) -> tuple[str, ...]:
    found = _texts(name, value)
    if not found:
        raise InvalidParams(f"{name} must be one queue or several, not {value!r}", name)
    return tuple(dict.fromkeys(checked_name("queue", each) for each in found))


def _texts(name: str, value: Any) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, str) and each for each in found):
        raise InvalidParams(f"{name} must be a text or a list of texts, not {value!r}", name)
    return tuple(found)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise InvalidParams(f"{name} must be a text of at most {_MAX_TEXT:,} characters, not {value!r:.80}", name)
    return value


def _count(least: int, most: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise InvalidParams(f"{name} must be a whole number from {least} to {most:,}, not {value!r}", name)
        return number

    return read


def _walltime(name: str, value: Any) -> float:
    found = option_values.seconds(name, value)
    if 0 < found < 60:
        raise InvalidParams(f"{name} must be 60 s or more, or 0 for no limit, not {value!r}", name)
    return found


def _resources(name: str, value: Any) -> Mapping[str, float]:
    """Return amounts by name. A size like "64G" is an amount of GB, as jobs ask for `mem=64`."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        value = {left.strip(): right.strip() if equals else 1 for left, equals, right in pairs}
    if isinstance(value, Mapping):
        value = {key: _amount(amount) for key, amount in value.items()}
    return option_values.resources(name, value)


def _amount(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        size = bytes_in(value) or bytes_in(f"{value}B")
        return value if size is None else size / 1e9


#: Options of all engines: the field of `PoolSpec`, and what reads and checks a value.
_FIELDS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "queues": ("queues", _queues),
    "max": ("max", _count(1, MAX_WORKERS)),
    "min": ("min", _count(0, MAX_WORKERS)),
    "idle": ("idle_s", option_values.seconds),
    "walltime": ("walltime_s", _walltime),
    "slots": ("slots", _count(1, MAX_SLOTS)),
    "resources": ("resources", _resources),
    "tasks": ("tasks", _texts),
    "setup": ("setup", _text),
    "python": ("python", _text),
}
