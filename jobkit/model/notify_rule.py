"""Rules of notifications: which webhook or command is called for which events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from jobkit.model.errors import InvalidParams
from jobkit.model.events import TERMINAL, EventType

#: Allowed names of events in a rule: the numbered events, and "ended" for any terminal state.
EVENT_NAMES = ("ended", *(str(kind) for kind in EventType if not kind.is_news and kind is not EventType.DELETED))


def kinds_of(names: Iterable[str]) -> frozenset[EventType]:
    """Return the event types of these names, which are checked."""
    kinds: set[EventType] = set()
    for name in names:
        if name not in EVENT_NAMES:
            raise InvalidParams(f"on must be one or several of {', '.join(EVENT_NAMES)}, not {name!r}", "on")
        kinds |= {EventType(end) for end in TERMINAL} if name == "ended" else {EventType(name)}
    if not kinds:
        raise InvalidParams(f"on needs an event: one or several of {', '.join(EVENT_NAMES)}", "on")
    return frozenset(kinds)


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """One webhook or command, and the events that it is called for.

    Attributes:
        on: event types. task, queue, owner: patterns of names ("train_*").
        url: address that receives JSON by POST, or "". command: program and arguments; it gets the JSON on standard
            input.
        secret: key of the signature in the webhook header `X-Jobkit-Signature`, or "" for none.
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
        """Return the rule that a settings file describes, checked."""
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
        """Return True if the rule applies to a job with these attributes."""
        return fnmatchcase(task, self.task) and fnmatchcase(queue, self.queue) and fnmatchcase(owner, self.owner)

    @property
    def name(self) -> str:
        """Name for log lines. Not the URL, whose path often is a secret."""
        return self.command[0] if self.command else str(urlsplit(self.url).hostname)
