"""Where jobs go and how long things take: argument beats environment beats `[tool.jobkit]` beats default.

`Settings.load()` reads the three once and checks every value; the rest of jobkit takes a `Settings` as a parameter
and never looks at the environment itself.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import platformdirs

from jobkit.model import InvalidParams
from jobkit.model.notify_rule import NotifyRule
from jobkit.model.people import Role

#: Schemes that `url` may have; what each does is in the contract's §2.
SCHEMES = ("local", "redis", "rediss", "unix", "redis+sentinel", "sync")

START_METHODS = ("auto", "fork", "spawn")
LOG_FORMATS = ("text", "json")
#: Not for a file that many people read.
_PRIVATE = frozenset({"home", "secret", "mercure_jwt"})

_LISTS = {"tasks": "module names", "origins": "origins of web pages"}

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be configured. Times in seconds.

    Attributes:
        url: where jobs go (`JOBKIT_URL`).
        home: directory of the embedded server, its workers and spool (`JOBKIT_HOME`); mode 0700.
        secret: key that signs payloads (`JOBKIT_SECRET`); several, comma-separated: the first signs, all verify.
            Empty: the embedded server's own key, or unsigned plain data on a remote Redis.
        namespace: prefix of every key and channel.
        tasks: modules to import for their tasks.
        routing: task-name pattern to queue; the first that matches wins.
        lease: a worker's right to a job ends this long after its last heartbeat.
        heartbeat: how often a worker renews its leases.
        cancel_grace: between SIGTERM and SIGKILL of a cancelled job.
        drain: how long a stopping worker waits for its jobs before it gives them back.
        idle_stop: the embedded server stops after this long without clients and jobs.
        result_ttl: how long an ended job is kept.
        max_losses: a job whose worker died this often has failed.
        keep: at most so many ended jobs are kept, whatever their time; 0 for no such bound.
        results: directory or fsspec URL for large results; empty: in the home, or in Redis.
        start_method: how a job's process comes to be: "fork", "spawn", or "auto" for fork where that is safe.
        locals: keep the local variables of the frame that failed with a job's error, secrets masked.
        public_url: URL under which others reach the HTTP API, where a proxy hides it.
        mercure_url: of an external Mercure hub that updates of jobs are published to (also `MERCURE_URL`).
        mercure_jwt: token for it (also `MERCURE_JWT`).
        notify: webhooks and commands that are told of jobs (`[[tool.jobkit.notify]]`; in the environment a JSON list).
        otel: workers tell OpenTelemetry of every job that ends.
        log_format: of the lines that workers log: "text", or "json" for one object a line.
        streams: event streams that one server holds open.
        streams_per_subject: those of one person or token, or of one address where nobody is named.
        origins: of web pages on other servers that may use the HTTP API ("https://app.example").
        login: file of names and passwords for the dashboard and the HTTP API (`JOBKIT_LOGIN`); see `jobkit.people`.
        roles: pattern of names to role, the first that matches wins: `JOBKIT_ROLES=ada=admin,*@lab.example=own`.
    """

    url: str = "local://"
    home: Path = field(default_factory=lambda: Path(platformdirs.user_data_dir("jobkit")))
    secret: str = field(default="", repr=False)
    namespace: str = "default"
    tasks: tuple[str, ...] = ()
    routing: Mapping[str, str] = field(default_factory=dict)
    lease: float = 15.0
    heartbeat: float = 5.0
    cancel_grace: float = 10.0
    drain: float = 30.0
    idle_stop: float = 600.0
    result_ttl: float = 604_800.0
    max_losses: int = 5
    keep: int = 0
    results: str = ""
    start_method: str = "auto"
    locals: bool = False
    public_url: str = ""
    mercure_url: str = ""
    mercure_jwt: str = field(default="", repr=False)
    streams: int = 1000
    streams_per_subject: int = 100
    origins: tuple[str, ...] = ()
    login: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    notify: tuple[NotifyRule, ...] = field(default=(), repr=False)
    otel: bool = False
    log_format: str = "text"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, start: Path | None = None, **arguments: Any) -> Self:
        """The settings in force here.

        Args:
            environ: the environment; `os.environ` unless given.
            start: where the search for `pyproject.toml` begins, upwards; the current directory unless given.
            arguments: explicit values; None means "not given".

        Raises:
            InvalidParams: a value is of the wrong kind or out of range; names the setting and where it came from.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, tuple[Any, str]] = {}
        path, table = _project_table(start or Path.cwd())
        known = {f.name for f in fields(cls)}
        for name, value in table.items():
            if name not in known or name in _PRIVATE:
                raise InvalidParams(
                    f"[tool.jobkit] in {path}: unknown setting {name!r}; allowed are "
                    f"{', '.join(sorted(known - _PRIVATE))}",
                    name,
                )
            values[name] = value, f"[tool.jobkit] in {path}"
        for name in known:
            variable = f"JOBKIT_{name.upper()}"
            if name.startswith("mercure_") and not environ.get(variable):
                variable = name.upper()  # as other publishers know it
            if environ.get(variable):
                values[name] = environ[variable], variable
        for name, value in arguments.items():
            if name not in known:
                raise InvalidParams(f"unknown setting {name!r}; allowed are {', '.join(sorted(known))}", name)
            if value is not None:
                values[name] = value, f"argument {name}"
        return cls(**{name: _parse(name, value, origin) for name, (value, origin) in values.items()}).checked()

    def checked(self) -> Self:
        """These settings with the URL taken apart: `local:///some/dir` moves into `home`.

        Raises:
            InvalidParams: settings that do not fit together.
        """
        scheme = self.url.partition("://")[0]
        if "://" not in self.url or scheme not in SCHEMES:
            raise InvalidParams(
                f"url {masked(self.url)!r} is not understood; use local://, redis://host:6379/0, rediss://, "
                "unix:///path/to.sock, redis+sentinel:// or sync://",
                "url",
            )
        if self.heartbeat * 2 > self.lease:
            raise InvalidParams(
                f"lease must be at least twice the heartbeat: got lease={self.lease:g} and heartbeat="
                f"{self.heartbeat:g}; raise JOBKIT_LEASE or lower JOBKIT_HEARTBEAT",
                "lease",
            )
        directory = self.url.removeprefix("local://") if scheme == "local" else ""
        return replace(self, url="local://", home=Path(directory).expanduser()) if directory else self

    def __repr__(self) -> str:
        """Without passwords, which two of the values may hold."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        shown |= {"url": masked(self.url), "results": masked(self.results)}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def is_embedded(self) -> bool:
        return self.scheme == "local"

    @property
    def masked_url(self) -> str:
        """The URL as it may be shown: its password replaced by `***`."""
        return f"local://{self.home}" if self.is_embedded else masked(self.url)

    @property
    def missing_guard(self) -> str:
        """What a Redis on the network lacks: "TLS", "a password", "TLS and a password", or "" for nothing."""
        if self.scheme not in ("redis", "rediss", "redis+sentinel"):
            return ""
        login, _, place = self.url.partition("://")[2].partition("?")[0].rpartition("@")
        hosts = place.partition("/")[0].lower().split(",")
        if all(_LOOPBACK.fullmatch(host) for host in hosts):
            return ""
        has_password = bool(login.partition(":")[2]) or "password=" in self.url.partition("?")[2]
        missing = [*([] if self.scheme == "rediss" else ["TLS"]), *([] if has_password else ["a password"])]
        return " and ".join(missing)

    def queue_for(self, task: str, default: str = "default") -> str:
        """The queue that routing gives a task, else `default`."""
        return next((queue for pattern, queue in self.routing.items() if fnmatchcase(task, pattern)), default)


#: A host of this machine, with its port; without one it is this machine as well.
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]|)(:\d+)?")


def masked(url: str) -> str:
    """`url` without its password: `redis://user:***@host/0`.

    Also where the password has characters that ought to be escaped (`/`, `?`, `#`, `@`): such a URL is not understood,
    and then it is shown. So not by taking the URL apart, but by hiding whatever might belong to a password.
    """
    scheme, mark, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    if colon:
        login = f"{user}:***"
    return re.sub(r"(password=)[^&#]*", r"\1***", f"{scheme}{mark}{login}{at}{place}")


def checked_name(kind: str, value: object) -> str:
    """`value` if it may name a queue, namespace, job or key.

    Raises:
        InvalidParams: not 1 to 200 characters of `[A-Za-z0-9_.:-]`.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise InvalidParams(f"{kind} must be 1 to 200 characters of A-Z a-z 0-9 _ . : -, not {shown}", kind)
    return value


def user_name() -> str:
    """The name of the person at this process, or ""."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _project_table(start: Path) -> tuple[Path, dict[str, Any]]:
    """The nearest `pyproject.toml` at or above `start` that has `[tool.jobkit]`, and that table."""
    for directory in (start, *start.parents):
        path = directory / "pyproject.toml"
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        except tomllib.TOMLDecodeError as error:
            raise InvalidParams(f"{path} is not valid TOML: {error}") from None
        tool = document.get("tool")
        table = tool.get("jobkit") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            return path, table
    return start, {}


def _parse(name: str, value: Any, origin: str) -> Any:
    """`value` as the type of setting `name`, or `InvalidParams` that names `origin`."""
    if name == "home":
        if not isinstance(value, (str, os.PathLike)):
            raise InvalidParams(f"{origin}: home must be a path, not {value!r}", name)
        return Path(value).expanduser().absolute()
    if name == "namespace":
        return checked_name("namespace", value)
    if name in ("tasks", "origins"):
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
            raise InvalidParams(f"{origin}: {name} must be {_LISTS[name]}, comma-separated, not {value!r}", name)
        return tuple(part.strip() for part in parts if part.strip())
    if name == "routing":
        if isinstance(value, str) and "=" in value:
            value = {
                pattern.strip(): queue.strip() for pattern, _, queue in (p.partition("=") for p in value.split(","))
            }
        if not isinstance(value, Mapping):
            raise InvalidParams(f"{origin}: routing must be a table of pattern = queue, not {value!r}", name)
        return {str(pattern): checked_name("queue", queue) for pattern, queue in value.items()}
    if name == "roles":
        return _roles(value, origin)
    if name in ("login", "url", "secret", "results", "public_url", "mercure_url", "mercure_jwt"):
        if not isinstance(value, (str, Path)):
            raise InvalidParams(f"{origin}: {name} must be text, not {type(value).__name__}", name)
        return str(value)
    if name in ("start_method", "log_format"):
        choices = START_METHODS if name == "start_method" else LOG_FORMATS
        if value not in choices:
            raise InvalidParams(f"{origin}: {name} must be one of {', '.join(choices)}, not {value!r}", name)
        return value
    if name == "notify":
        return _rules(value, origin)
    if name in ("locals", "otel"):
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if str(value).lower() not in known:
            raise InvalidParams(f"{origin}: {name} must be true or false, not {value!r}", name)
        return known[str(value).lower()]
    return _number(name, value, origin)


def _rules(value: Any, origin: str) -> tuple[NotifyRule, ...]:
    """Rules from a file's tables or an environment's JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidParams(f"{origin}: notify is not valid JSON: {error}", "notify") from None
    if not isinstance(value, (list, tuple)):
        raise InvalidParams(f"{origin}: notify must be a list of rules, not {value!r}", "notify")
    try:
        return tuple(rule if isinstance(rule, NotifyRule) else NotifyRule.read(rule) for rule in value)
    except InvalidParams as error:
        raise InvalidParams(f"{origin}: {error}", "notify") from None


def _roles(value: Any, origin: str) -> dict[str, str]:
    """A table, or `pattern=role` with commas."""
    if isinstance(value, str):
        pairs = [(pattern, role.strip()) for pattern, _, role in (part.rpartition("=") for part in value.split(","))]
        pairs = [pair for pair in pairs if any(pair)]
    elif isinstance(value, Mapping):
        pairs = [(str(pattern), role) for pattern, role in value.items()]
    else:
        raise InvalidParams(f"{origin}: roles must be a table of pattern = role, not {value!r}", "roles")
    for pattern, role in pairs:
        if not pattern.strip() or role not in Role._value2member_map_:
            raise InvalidParams(
                f"{origin}: roles must be patterns of names, each with one of {', '.join(Role)}, not "
                f"{pattern.strip()!r} = {role!r}",
                "roles",
            )
    return {pattern.strip(): str(role) for pattern, role in pairs}


#: Settings that are whole numbers, with the least that they may be.
_COUNTS = {"max_losses": (int, 1), "keep": (int, 0), "streams": (int, 1), "streams_per_subject": (int, 1)}


def _number(name: str, value: Any, origin: str) -> float | int:
    """A positive number of seconds, or one of the counts."""
    kind, least = _COUNTS.get(name, (float, 0))
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if kind is int and isinstance(value, float) and number != value:
        number = None
    if number is None or isinstance(value, bool) or not least <= number < 10**9:
        what = f"a whole number from {least}" if kind is int else "a number of seconds, 0 or more"
        raise InvalidParams(f"{origin}: {name} must be {what}, not {value!r}", name)
    return number
