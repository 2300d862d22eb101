"""Who else is told of jobs: `[[tool.jobkit.notify]]`, one rule for each webhook or command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from jobkit.model.errors import InvalidParams
from jobkit.model.events import EventType

_ENDS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)

#: Names of events that somebody may ask to be told of: the numbered ones, and "ended" for every way to end.
EVENT_NAMES = ("ended", *(str(kind) for kind in EventType if not kind.is_news and kind is not EventType.DELETED))


def kinds_of(names: Iterable[str]) -> frozenset[EventType]:
    """The events that these names mean.

    Raises:
        InvalidParams: there are none, or one is unknown.
    """
    kinds: set[EventType] = set()
    for name in names:
        if name not in EVENT_NAMES:
            raise InvalidParams(f"on must be one or several of {', '.join(EVENT_NAMES)}, not {name!r}", "on")
        kinds |= set(_ENDS) if name == "ended" else {EventType(name)}
    if not kinds:
        raise InvalidParams(f"on needs an event: one or several of {', '.join(EVENT_NAMES)}", "on")
    return frozenset(kinds)


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """One webhook or command, and the events that it is for.

    Attributes:
        on: kinds of events. task, queue, owner: patterns of names ("train_*").
        url: where JSON is posted to, or "". command: program and arguments that get the JSON on standard input, or ().
        secret: key of the signature in the header `X-Jobkit-Signature` of a webhook, or "" for none.
    """

    on: frozenset[EventType] = frozenset({EventType.FAILED})
    task: str = "*"
    queue: str = "*"
    owner: str = "*"
    url: str = ""
    command: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)

    @classmethod
    def read(cls, wanted: object) -> NotifyRule:
        """A rule as it is written in a file.

        Raises:
            InvalidParams: it is not understood; the sentence says what is allowed.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(wanted, Mapping):
            raise InvalidParams(f"a notify rule is a table of {', '.join(known)}, not {wanted!r}", "notify")
        values: dict[str, Any] = dict(wanted)
        for name in values:
            if name not in known:
                raise InvalidParams(f"unknown key {name!r} in a notify rule; allowed are {', '.join(known)}", "notify")
        on = values.pop("on", "failed")
        command = values.pop("command", ())
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                raise InvalidParams(f"{name} of a notify rule must be text, not {value!r}", "notify")
        if isinstance(command, str) or not all(isinstance(part, str) and part for part in command):
            raise InvalidParams(
                f'command of a notify rule is a list of program and arguments, like ["notify-send", "done"], '
                f"not {command!r}",
                "notify",
            )
        rule = cls(kinds_of([on] if isinstance(on, str) else list(on)), command=tuple(command), **values)
        if bool(rule.url) == bool(rule.command):
            raise InvalidParams("a notify rule has either a url or a command", "notify")
        if rule.url and (urlsplit(rule.url).scheme not in ("http", "https") or not urlsplit(rule.url).hostname):
            raise InvalidParams(f"url of a notify rule must be http:// or https://, not {rule.url[:60]!r}", "notify")
        return rule

    def wants(self, task: str, queue: str, owner: str) -> bool:
        """Whether it is for such a job."""
        return fnmatchcase(task, self.task) and fnmatchcase(queue, self.queue) and fnmatchcase(owner, self.owner)

    @property
    def name(self) -> str:
        """What logs call it; a webhook's path often is its secret."""
        return self.command[0] if self.command else str(urlsplit(self.url).hostname)
