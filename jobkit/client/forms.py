"""The two forms of a verb: blocking, for the kit and its nouns; and as a coroutine, for `kit.aio`.

A verb is written once, in a service. The table of the class that offers it says how it runs; see
`jobkit.client.connection`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from operator import attrgetter
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from jobkit.client.connection import Connection
from jobkit.model import JobkitError
from jobkit.model.neighbours import HasNeighbours, similar
from jobkit.model.person import Role
from jobkit.tasks.shown import Listed

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


def _form(how: str, service: str, verb: Callable[..., Any]) -> Any:
    """Return the blocking form of a service's verb. Its attribute `coroutine` is the form for `kit.aio`.

    Args:
        how: the method of `Connection` that runs it; the one for coroutines ends in `_async`.
        service: the path from the kit to what has the verb.
    """
    service_of, verb.__qualname__ = attrgetter(service), f"kit.{verb.__name__}"  # as Python's own errors name it

    @wraps(verb)
    def blocking(kit: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(kit.connection, how)(verb, service_of(kit), *args, **kwargs)

    def coroutine(kit: Any, /, *args: Any, **kwargs: Any) -> Any:
        made = getattr(kit.connection, f"{how}_async")(verb, service_of(kit), *args, **kwargs)
        # As Python's warning names it if it is never awaited.
        made.__qualname__ = verb.__qualname__.replace("kit", "kit.aio", 1)
        return made

    blocking.coroutine = coroutine  # type: ignore[attr-defined]
    return blocking


def in_thread(service: str, verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Make a blocking verb of a service one of the kit."""
    return _form("run", service, verb)  # type: ignore[no-any-return]


def submitting(service: str, verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[Any, P], T]:
    """`in_thread` for a verb that puts jobs to work: it starts an embedded server that was stopped."""
    return _form("run_started", service, verb)  # type: ignore[no-any-return]


def on_loop(
    service: str, verb: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]
) -> Callable[Concatenate[Any, P], T]:
    """Make a verb that runs on the background loop blocking."""
    return _form("call", service, verb)  # type: ignore[no-any-return]


def stream(
    service: str, verb: Callable[Concatenate[S, P], AsyncIterator[T]]
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Make an asynchronous iterator of the background loop an iterator."""
    return _form("iterate", service, verb)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Deed:
    """A verb of a noun that acts on one thing by its name. Its page action, command and HTTP route follow from it.

    Attributes:
        name: of the verb. done: participle, as in "schedule nightly was paused".
        unchanged: state of the thing if the verb returns False, such as "paused already".
        least: role that it takes.
    """

    name: str
    done: str
    unchanged: str = ""
    least: Role = Role.OPERATE


class Noun(HasNeighbours, Listed):
    """Base of the nouns of a kit, one for each feature: called, a noun lists; its verbs act.

    Attributes:
        ON: word for one thing, in sentences and in the audit trail, where a deed is "pause_schedule".
        DEEDS: verbs that pages, the command line and HTTP offer as well.
        connection: of the kit.
        verbs: object that has the verbs of the noun's table; made with the kit.
        _SERVICE: its class.
    """

    _internal = frozenset({"DEEDS", "ON", "carry_out", "connection", "summary", "verbs"})
    ON: ClassVar[str] = ""
    DEEDS: ClassVar[tuple[Deed, ...]] = ()
    _SERVICE: ClassVar[type[Any]]

    def __init__(self, kit: Any) -> None:
        self.connection: Connection = kit.connection
        self.verbs = type(self)._SERVICE(kit)
        self.aio = AioNoun(self)

    @classmethod
    def summary(cls, deed: Deed) -> str:
        """Return the first line of a deed's docstring."""
        return (inspect.getdoc(getattr(cls, deed.name)) or "").partition("\n")[0]

    @classmethod
    async def carry_out(cls, kit: Any, deed: Deed, name: str, by: str) -> None:
        """Do it to one thing, for a person. Raises what the verb raises, and `JobkitError` if nothing has changed."""
        verb = getattr(getattr(kit.aio, cls.__name__.lower()), deed.name)
        takes_by = "by" in inspect.signature(getattr(cls, deed.name)).parameters
        if await verb(name, **({"by": by} if takes_by else {})) is False:
            raise JobkitError(f"{cls.ON} {name} is {deed.unchanged}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a kit: call it to list them>"


class AioNoun:
    """The verbs of a noun as coroutines: `await kit.aio.failures()`, `await kit.aio.failures.mute(id)`."""

    def __init__(self, noun: Noun) -> None:
        self._noun = noun

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._noun) if coroutine_of(self._noun, name) is not None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return coroutine_of(self._noun, "__call__")(self._noun, *args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if (coroutine := coroutine_of(self._noun, name)) is None:
            raise AttributeError(f"there is no verb {name!r}{similar(self, name)}")
        return partial(coroutine, self._noun)


def coroutine_of(owner: object, name: str) -> Any:
    """Return the coroutine form of a verb of a kit or noun, which takes the kit or noun first; None if it has none."""
    return getattr(getattr(type(owner), name, None), "coroutine", None)
