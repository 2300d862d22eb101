"""Settings: argument beats environment beats `[tool.jobkit]` beats default.

`Settings.load()` reads all three once and validates every value. Other modules take a `Settings` as a parameter and
never read the environment.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Self

import platformdirs

from jobkit.features import modules
from jobkit.joined import INLINE, Membership, membership_of
from jobkit.model import InvalidParams
from jobkit.model.format import bytes_in, seconds_in
from jobkit.model.person import Role

#: Allowed schemes of `url`. The documentation of `connect` says what each does.
SCHEMES = ("local", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "joined", "sync")

START_METHODS = ("auto", "fork", "spawn")
LOG_FORMATS = ("text", "json")
MADE_BY = ("all", "no-diff", "off")
#: Not allowed in `pyproject.toml`, which other people can read.
_PRIVATE = frozenset({"home", "secret", "secret_file", "token_secret", "mercure_jwt", "mercure_key"})

#: Settings of an external hub, which other publishers have under these names, too.
_SHARED = frozenset({"mercure_url", "mercure_jwt"})

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be configured. Times are in seconds.

    Attributes:
        url: where jobs go (`JOBKIT_URL`).
        home: directory of the embedded server, its workers and spool (`JOBKIT_HOME`); mode 0700.
        secret: key that signs payloads (`JOBKIT_SECRET`). Several are comma-separated: the first signs, all verify, and
            of those that begin with `retired:` only what the store holds is accepted. If empty: the embedded server's
            own key, or unsigned plain data on a remote Redis.
        secret_file: file that contains `secret`, which is read again when a payload has another key.
        token_secret: key of API tokens, logins and the own hub, which no worker needs (`JOBKIT_TOKEN_SECRET`). If it is
            empty: the embedded server's own key, or one derived from `secret`. Several as for `secret`.
        namespace: prefix of every key and channel.
        tasks: modules to import for their tasks.
        routing: task-name pattern to queue; the first match wins.
        pools: options of `kit.pool` by name of the pool (`[tool.jobkit.pools.NAME]`).
        slots: how many jobs a worker runs at once, unless `-c` says it; 0 for one for each CPU, two at least.
        lease: a worker's lease on a job expires this long after its last heartbeat.
        heartbeat: interval at which a worker renews its leases.
        cancel_grace: time between SIGTERM and SIGKILL of a cancelled job.
        drain: how long a stopping worker waits for its jobs before it gives them back.
        reply_timeout: a server that sends and takes nothing for this long while a reply is awaited is given up.
        idle_stop: the embedded server stops after this long without clients and jobs.
        result_ttl: how long an ended job is kept.
        max_losses: a job fails after this many of its workers have died while they ran nothing else.
        keep: maximum number of ended jobs that are kept, whatever their age; 0 for no limit.
        results: directory or fsspec URL for large results. If empty: in the home, or in Redis.
        archive: directory or fsspec URL to which workers append every job that ends, for `kit.archive`; "" for none.
        archive_files: size of the largest file of a job, or part of its call, that the archive gets a copy of (bytes).
        start_method: start method of a job's process: "fork", "spawn", or "auto" for fork if that is safe.
        import_ahead: workers import what recent jobs have imported before the next ones need it.
        locals: store the local variables of the failing frame with a job's error, secrets masked.
        made_by: what is kept of what made a result: "all", "no-diff" for all but the diff of git, or "off".
        made_env: names of environment variables that are kept, comma-separated; `*` stands for any text.
        public_url: public URL of the HTTP API if it is behind a proxy.
        mercure_url: URL of an external Mercure hub to publish job updates to (also `MERCURE_URL`).
        mercure_jwt: token for that hub (also `MERCURE_JWT`).
        mercure_key: key of the tokens of the own hub, for publishers that have one; if empty, derived as keys of
            API tokens are.
        notify: webhooks, commands and addresses for events (`[[tool.jobkit.notify]]`; in the environment a JSON list).
        otel: workers report every ended job to OpenTelemetry.
        mlflow: tracking URI of MLflow, in which every ended job becomes a run; "" for none.
        log_format: format of the workers' log lines: "text", or "json" for one object a line.
        streams: maximum number of open event streams of a server.
        streams_per_subject: the same for one user or token, or for one address without a login.
        stream_heartbeat: a silent event stream sends a comment after this long, so that proxies do not close it.
        origins: origins of web pages on other servers that may use the HTTP API ("https://app.example").
        login: file of names and passwords for the dashboard and the HTTP API (`JOBKIT_LOGIN`); see `jobkit/access/`.
        roles: pattern of names to role, the first match wins: `JOBKIT_ROLES=ada=admin,*@lab.example=own`.
    """

    url: str = "local://"
    home: Path = field(default_factory=lambda: Path(platformdirs.user_data_dir("jobkit")))
    secret: str = field(default="", repr=False)
    secret_file: str = ""
    token_secret: str = field(default="", repr=False)
    namespace: str = "default"
    tasks: tuple[str, ...] = ()
    routing: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    slots: int = 0
    lease: float = 15.0
    heartbeat: float = 5.0
    cancel_grace: float = 10.0
    drain: float = 30.0
    reply_timeout: float = 15.0
    idle_stop: float = 600.0
    result_ttl: float = 604_800.0
    max_losses: int = 5
    keep: int = 0
    results: str = ""
    archive: str = ""
    archive_files: int = 10_000_000
    start_method: str = "auto"
    import_ahead: bool = True
    locals: bool = False
    made_by: str = "all"
    made_env: str = ""
    public_url: str = ""
    mercure_url: str = ""
    mercure_jwt: str = field(default="", repr=False)
    mercure_key: str = field(default="", repr=False)
    streams: int = 1000
    streams_per_subject: int = 100
    stream_heartbeat: float = 15.0
    origins: tuple[str, ...] = ()
    login: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    notify: tuple[Any, ...] = field(default=(), repr=False)
    otel: bool = False
    mlflow: str = ""
    log_format: str = "text"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, start: Path | None = None, **arguments: Any) -> Self:
        """Return the settings from arguments, environment and `pyproject.toml`.

        Args:
            environ: the environment; default `os.environ`.
            start: directory in which the search for `pyproject.toml` starts, upwards; default the current directory.
            arguments: explicit values; None means "not given".

        Raises:
            InvalidParams: a value has the wrong type or is out of range. The message names the setting and its source.
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
            if name in _SHARED and not environ.get(variable):
                variable = name.upper()  # the usual name, shared with other publishers
            if environ.get(variable):
                values[name] = environ[variable], variable
        for name, value in arguments.items():
            if name not in known:
                raise InvalidParams(f"unknown setting {name!r}; allowed are {', '.join(sorted(known))}", name)
            if value is not None:
                values[name] = value, f"argument {name}"
        file, origin = values.get("secret_file", ("", ""))
        if "secret" not in values and file:
            values["secret"] = secret_in(file), origin
        elif arguments.get("secret_file") is None:  # that of another secret
            values.pop("secret_file", None)
        return cls(**{name: _parse(name, value, origin) for name, (value, origin) in values.items()}).checked()

    def checked(self) -> Self:
        """Return these settings, validated; the directory of `local:///some/dir` moves into `home`."""
        scheme = self.url.partition("://")[0]
        if "://" not in self.url or scheme not in SCHEMES:
            raise InvalidParams(
                f"url {masked(self.url)!r} is not understood; use local://, redis://host:6379/0, rediss://, "
                "unix:///path/to.sock, redis+sentinel://, rediss+sentinel://, joined://NAME or sync://",
                "url",
            )
        if scheme == "unix" and sys.platform == "win32":
            raise InvalidParams("Python on Windows has no unix sockets; use redis://host:6379/0", "url")
        if self.heartbeat * 2 > self.lease:
            raise InvalidParams(
                f"lease must be at least twice the heartbeat: got lease={self.lease:g} and heartbeat="
                f"{self.heartbeat:g}; raise JOBKIT_LEASE or lower JOBKIT_HEARTBEAT",
                "lease",
            )
        if scheme == "joined":
            return self._of_member(membership_of(self.url, self.home))
        directory = self.url.removeprefix("local://") if scheme == "local" else ""
        return replace(self, url="local://", home=Path(directory).expanduser()) if directory else self

    def _of_member(self, member: Membership) -> Self:
        """Return these settings with namespace, key and files of a joined place."""
        if self.namespace not in ("default", member.namespace):
            raise InvalidParams(
                f"{masked(self.url)} shares the namespace {member.namespace!r}, not {self.namespace!r}: unset "
                "JOBKIT_NAMESPACE, or join again with a word for that namespace",
                "namespace",
            )
        results = self.results or member.files_url
        # Not the key of payloads, which other members know.
        return replace(
            self,
            namespace=member.namespace,
            secret=member.secret,
            secret_file="",
            token_secret=member.password,
            results=results,
        )

    @property
    def membership(self) -> Membership | None:
        """The membership in the joined place that the URL names; None for other URLs."""
        return membership_of(self.url, self.home) if self.scheme == "joined" else None

    @property
    def login_secret(self) -> str:
        """The secret from which keys of tokens and logins are derived; "" if there is none."""
        return self.token_secret or self.secret

    @property
    def only_reads(self) -> str:
        """Why jobs cannot be submitted with these settings, as a sentence; "" if they can."""
        is_viewer = (member := self.membership) is not None and member.role == "viewer"
        return f"{self.masked_url} lets this machine only read: a viewer submits no jobs" if is_viewer else ""

    def __repr__(self) -> str:
        """Hide passwords, which `url`, `results` and `archive` may contain."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        shown |= {"url": masked(self.url), "results": masked(self.results), "archive": masked(self.archive)}
        shown["mlflow"] = masked(self.mlflow)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def task_modules(self) -> tuple[str, ...]:
        """Modules to import for their tasks: the demo if none is configured."""
        return self.tasks or ("jobkit.demo",)

    @property
    def is_embedded(self) -> bool:
        return self.scheme == "local"

    @property
    def is_by_sentinel(self) -> bool:
        """True if Sentinels name the server."""
        return self.scheme.endswith("+sentinel")

    @property
    def masked_url(self) -> str:
        """The URL for display, its password replaced by `***`."""
        return f"local://{self.home}" if self.is_embedded else masked(self.url)

    @property
    def missing_guard(self) -> str:
        """Security that a Redis on the network lacks: "TLS", "a password", "TLS and a password", or ""."""
        if not self.scheme.startswith("redis"):
            return ""
        login, _, place = self.url.partition("://")[2].partition("?")[0].rpartition("@")
        hosts = place.partition("/")[0].lower().split(",")
        if all(_LOOPBACK.fullmatch(host) for host in hosts):
            return ""
        has_password = bool(login.partition(":")[2]) or "password=" in self.url.partition("?")[2]
        missing = [*([] if self.scheme.startswith("rediss") else ["TLS"]), *([] if has_password else ["a password"])]
        return " and ".join(missing)

    def queue_for(self, task: str, default: str = "default") -> str:
        """Return the queue of a task by the routing table, else `default`."""
        return next((queue for pattern, queue in self.routing.items() if fnmatchcase(task, pattern)), default)


#: A host of this machine with an optional port. An empty host is this machine, too.
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]|)(:\d+)?")


def masked(url: str) -> str:
    """Return `url` without its password: `redis://user:***@host/0`.

    Does not parse the URL: a password with unescaped characters (`/`, `?`, `#`, `@`) makes it invalid, and invalid URLs
    are shown in errors. Hides everything that might belong to a password.
    """
    scheme, mark, rest = url.partition("://")
    if rest.startswith(INLINE):
        return f"{scheme}{mark}***"
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    if colon:
        login = f"{user}:***"
    return re.sub(r"(password=)[^&#]*", r"\1***", f"{scheme}{mark}{login}{at}{place}")


def checked_name(kind: str, value: object) -> str:
    """Return `value` if it is a valid name of a queue, namespace, job or key. Raises InvalidParams if not."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise InvalidParams(f"{kind} must be 1 to 200 characters of A-Z a-z 0-9 _ . : -, not {shown}", kind)
    return value


def check_private(path: Path, what: str, field: str) -> os.stat_result:
    """Return the facts about a file with secrets.

    The group may read a file of root's, because containers mount secrets like that (mode 0440).

    Raises:
        InvalidParams: other users can read it. The message begins with `what`.
        OSError: there is no such file.
    """
    facts = path.stat()
    if os.name == "posix" and facts.st_mode & (0o077 if facts.st_uid else 0o037):
        raise InvalidParams(f"{what} {path} can be read by others: chmod 600 {path}, or mount it with mode 0440", field)
    return facts


def secret_in(path: str | Path) -> str:
    """Return the content of the file of a secret. Raises InvalidParams if it cannot be used."""
    what = "the file of JOBKIT_SECRET_FILE"
    try:
        check_private(Path(path), what, "secret")
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidParams(f"{what} {path} cannot be read: {reason}", "secret") from None
    if not text:
        raise InvalidParams(f"{what} {path} is empty", "secret")
    return text


def hub_user() -> str:
    """Return the name with which the user of this process has logged in at a JupyterHub; "" without one."""
    return os.environ.get("JUPYTERHUB_USER", "")


#: Returns the name of the logged-in user whose page session calls, "" outside of these. Servers of pages replace it.
session_user: Callable[[], str] = str


def submitter_name() -> str:
    """Return the name of the user on whose behalf this is called: of a page session's login, else of this process."""
    return session_user() or user_name()


def user_name() -> str:
    """Return the user name of this process, or "". On a JupyterHub it is that of the Hub."""
    if name := hub_user():
        return name
    return _account_name(*map(os.environ.get, _NAMED_BY))


#: Variables that `getpass.getuser` reads before it asks the system.
_NAMED_BY = ("LOGNAME", "USER", "LNAME", "USERNAME")


@functools.lru_cache(maxsize=4)
def _account_name(*variables: str | None) -> str:
    """Return the name of this process's account, for values of `_NAMED_BY`: each submit asks for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the last one on Windows without USERNAME
        return ""


def _project_table(start: Path) -> tuple[Path, dict[str, Any]]:
    """Return the nearest `pyproject.toml` at or above `start` with a `[tool.jobkit]`, and that table."""
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
    """Return `value` as the type of setting `name`, or raise `InvalidParams` with `origin` in the message."""
    reader = _READERS.get(name) or _READERS.get(_TYPES[name])
    reader = reader or next((found for module in modules("settings") if (found := module.READERS.get(name))), None)
    if reader is None:
        raise InvalidParams(f"{origin}: no feature has the setting {name}", name)
    read, wanted = reader
    try:
        return read(value)
    except InvalidParams as error:
        raise InvalidParams(f"{origin}: {error}", error.field) from None
    except (TypeError, ValueError, LookupError, OverflowError):
        shown = type(value).__name__ if read is _text else repr(value)  # it may be a secret
        raise InvalidParams(f"{origin}: {name} must be {wanted}, not {shown}", name) from None


def _text(value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise TypeError
    return str(value)


def _place(value: str) -> str:
    """Return a directory as an absolute path, since workers may run in another one; a URL as it is."""
    return value if not value or "://" in value else str(Path(value).expanduser().absolute())


def _list(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise TypeError
    return tuple(part.strip() for part in parts if part.strip())


def _seconds(value: Any, least: float = 0, most: float = 10**9) -> float:
    found = seconds_in(value)
    return float(_number(float, least, value if found is None else found, most))


def _key(value: Any) -> str:
    if len(key := _text(value).strip()) < 32:
        raise InvalidParams(
            f"mercure_key must have 32 characters or more, as HS256 needs, not {len(key)}", "mercure_key"
        )
    return key


def _size(value: Any) -> int:
    found = bytes_in(value)
    if found is None or not 0 <= found < 2**60:
        raise ValueError
    return int(found)


def _number(kind: type, least: float, value: Any, most: float = 10**9) -> float | int:
    number: float | int = kind(value)
    is_cut = kind is int and isinstance(value, float) and number != value
    if is_cut or isinstance(value, bool) or not least <= number <= most:
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]


def _choice(choices: tuple[str, ...], value: Any) -> str:
    return choices[choices.index(value)]


def _pairs(value: Any, split: Callable[[str, str], tuple[str, str, str]]) -> dict[str, Any]:
    """Parse a table, or comma-separated `pattern=value`."""
    if isinstance(value, str):
        parts = [split(part, "=") for part in value.split(",") if part.strip()]
        return {pattern.strip(): given.strip() for pattern, _, given in parts}
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(pattern).strip(): given for pattern, given in value.items()}


def _routing(value: Any) -> dict[str, str]:
    if isinstance(value, str) and "=" not in value:
        raise ValueError
    return {pattern: checked_name("queue", queue) for pattern, queue in _pairs(value, str.partition).items()}


def _roles(value: Any) -> dict[str, str]:
    roles = _pairs(value, str.rpartition)
    for pattern, role in roles.items():
        if not pattern or role not in Role._value2member_map_:
            raise InvalidParams(
                f"roles must be patterns of names, each with one of {', '.join(Role)}, not {pattern!r} = {role!r}",
                "roles",
            )
    return {pattern: str(role) for pattern, role in roles.items()}


_TYPES = {f.name: f.type for f in fields(Settings)}

#: Parser of each setting, by its name or else its type, and what its value must be.
_READERS: Mapping[Any, tuple[Callable[[Any], Any], str]] = {
    "str": (_text, "text"),
    "float": (_seconds, 'seconds or a text like "12h" or "7d", 0 or more'),
    "bool": (_flag, "true or false"),
    "int": (partial(_number, int, 1), "a whole number from 1"),
    "keep": (partial(_number, int, 0), "a whole number from 0"),
    "slots": (partial(_number, int, 0, most=10_000), "a whole number from 0 to 10,000"),
    "stream_heartbeat": (partial(_seconds, least=1, most=3600), "1 second to 1 hour"),
    "reply_timeout": (partial(_seconds, least=0.1, most=3600), "0.1 seconds to 1 hour"),
    "mercure_key": (_key, "text"),
    "archive": (lambda value: _place(_text(value)), "a directory or URL"),
    "archive_files": (lambda value: _size(value), 'a size like "10MB", or 0'),
    "home": (lambda value: Path(value).expanduser().absolute(), "a path"),
    "namespace": (partial(checked_name, "namespace"), "a name"),
    "tasks": (_list, "module names, comma-separated"),
    "origins": (_list, "origins of web pages, comma-separated"),
    "routing": (_routing, "a table of pattern = queue"),
    "roles": (_roles, "a table of pattern = role"),
    "start_method": (partial(_choice, START_METHODS), f"one of {', '.join(START_METHODS)}"),
    "made_by": (partial(_choice, MADE_BY), f"one of {', '.join(MADE_BY)}"),
    "log_format": (partial(_choice, LOG_FORMATS), f"one of {', '.join(LOG_FORMATS)}"),
}
