"""Names, passwords and roles: the login file, and who may what by the settings.

The file is JSON: `{"ada": "a long password"}`, or with a role and a hash instead of the word itself:
`{"ada": {"password": "scrypt$...", "role": "operate"}}`. `jobkit people` writes it. Who serves and who asks do not
matter here; dashboard, HTTP and command line use it alike.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from jobkit.model import InvalidParams
from jobkit.model.people import Person, Role
from jobkit.settings import Settings

#: Name in `roles` for who comes from elsewhere and was not asked: by a proxy that does the asking, for instance.
ANONYMOUS = "anonymous"

#: What begins a pattern in `roles` that is of groups and not of names.
GROUP = "@"

#: Cost of a hash: 16 MiB and some 50 ms each, as OWASP's list has it for scrypt with p=5 at half of the memory.
_N, _R, _P = 2**14, 8, 5
_MAX_MEMORY = 64 * 2**20

#: Longer passwords are not looked at.
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the login file. `role` is None where `roles` decides."""

    password: str = field(repr=False)
    role: Role | None = None

    @property
    def is_hashed(self) -> bool:
        return self.password.startswith("scrypt$")


def hashed(password: str) -> str:
    """A password as it may be kept: `scrypt$n$r$p$salt$key`."""
    salt = secrets.token_bytes(16)
    return "$".join(["scrypt", f"{_N}", f"{_R}", f"{_P}", _base64(salt), _base64(_key(password, salt, _N, _R, _P))])


def is_password(given: str, account: Account | None) -> bool:
    """Whether it is the account's password. Takes its time also where there is no such account, or no hash."""
    if len(given) > _LONGEST:
        return False
    stored = account.password if account is not None else ""
    if account is None or not account.is_hashed:
        _key(given, b"nobody's", _N, _R, _P)
        return hmac.compare_digest(_digest(given), _digest(stored)) and bool(stored)
    try:
        n, r, p, salt, key = _hash_parts(stored)
    except ValueError:
        return False
    return hmac.compare_digest(_key(given, salt, n, r, p), key)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _key(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _hash_parts(stored: str) -> tuple[int, int, int, bytes, bytes]:
    """Raises ValueError where it is no hash of ours."""
    try:
        _, n, r, p, salt, key = stored.split("$")
        numbers = int(n), int(r), int(p)
        if not (2 <= numbers[0] <= 2**20 and 1 <= numbers[1] <= 32 and 1 <= numbers[2] <= 16):
            raise ValueError("cost")
        return *numbers, base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(str(error)) from None


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# -- the file ----------------------------------------------------------------------------------------------------------


def read_login(path: str | Path) -> Mapping[str, Account]:
    """The accounts of a login file.

    Raises:
        InvalidParams: it cannot be read, others can read it, or it does not say what it should.
    """
    file = Path(path)
    try:
        facts = file.stat()
        if os.name == "posix" and facts.st_mode & 0o077:
            raise InvalidParams(f"the login file {file} can be read by others: chmod 600 {file}", "login")
        return _read(str(file), facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise InvalidParams(f"the login file {file} cannot be read: {error.strerror or error}", "login") from None


@lru_cache(maxsize=8)
def _read(path: str, _changed_ns: int, _size: int) -> Mapping[str, Account]:
    """Read once for each change of the file: it is asked for with every request."""
    try:
        told = json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise InvalidParams(f"the login file {path} is not JSON: {error}", "login") from None
    if not isinstance(told, dict) or not told:
        raise InvalidParams(
            f"the login file {path} must be JSON of names and passwords, like "
            '{"ada": "a long password"} or {"ada": {"password": "a long password", "role": "operate"}}',
            "login",
        )
    return {name: _account(path, name, entry) for name, entry in told.items()}


def _account(path: str, name: str, entry: object) -> Account:
    if isinstance(entry, str):
        entry = {"password": entry}
    where = f"the login file {path}: {name!r}"
    if not name or len(name) > 200 or not name.isprintable():
        raise InvalidParams(f"{where} must be a name of 1 to 200 printable characters", "login")
    if not isinstance(entry, dict) or not isinstance(entry.get("password"), str) or not entry["password"]:
        raise InvalidParams(f'{where} must have a password, like {{"password": "a long password"}}', "login")
    if unknown := set(entry) - {"password", "role"}:
        raise InvalidParams(f"{where} has {min(unknown)!r}; allowed are password and role", "login")
    account = Account(entry["password"], None if entry.get("role") is None else role_named(entry["role"], where))
    if account.is_hashed:
        try:
            _hash_parts(account.password)
        except ValueError:
            raise InvalidParams(f"{where} has a hash that cannot be read; `jobkit people` makes one", "login") from None
    return account


def write_login(path: str | Path, accounts: Mapping[str, Account]) -> None:
    """Replace a login file, readable by its owner alone."""
    file = Path(path)
    told = {
        name: {"password": account.password} | ({"role": str(account.role)} if account.role else {})
        for name, account in accounts.items()
    }
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(told, out, indent=2, ensure_ascii=False)
            out.write("\n")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


# -- logins that have ended --------------------------------------------------------------------------------------------

#: How long the cookie of a login lasts, in days.
LOGIN_DAYS = 7


def end_login(login_id: str, settings: Settings) -> None:
    """Refuse a login from now on, in all processes that share this home, also if somebody has kept its cookie.

    Raises:
        OSError: that cannot be written.
    """
    path = _ended_logins(settings)
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        now = time.time()
        kept = [line for line in file if float(line.split()[1]) > now]
        file.seek(0)
        file.truncate()
        file.writelines([*kept, f"{login_id} {now + LOGIN_DAYS * 86_400:.0f}\n"])


def has_ended(login_id: str, settings: Settings) -> bool:
    """Return whether this login was ended by `end_login`."""
    path = _ended_logins(settings)
    try:
        facts = path.stat()
        return login_id in _read_ended(str(path), facts.st_mtime_ns, facts.st_size)
    except FileNotFoundError:
        return False
    except OSError:
        return True


@lru_cache(maxsize=8)
def _read_ended(path: str, _changed_ns: int, _size: int) -> frozenset[str]:
    with open(path, encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return frozenset(line.split()[0] for line in file)


def split_seal(cookie: bytes | None) -> tuple[str, str]:
    """Return the seal of the password and the id of the login, from the content of the cookie `user_seal`."""
    seal, _, login_id = (cookie or b"").decode("ascii", "replace").partition(".")
    return seal, login_id


def _ended_logins(settings: Settings) -> Path:
    return settings.home.expanduser().absolute() / "ended-logins"


# -- who may what ------------------------------------------------------------------------------------------------------


def role_named(name: object, where: str) -> Role:
    """Raises InvalidParams, which begins with `where`."""
    if not isinstance(name, str) or name not in Role._value2member_map_:
        raise InvalidParams(f"{where}: role must be one of {', '.join(Role)}, not {name!r}", "roles")
    return Role(name)


def person_named(
    name: str, settings: Settings, *, is_listed: bool, claims: Mapping[str, object] | None = None
) -> Person:
    """Somebody who has logged in, with their role.

    The first of these that says something: the login file; the first pattern of `settings.roles` that their name
    matches, or, where it begins with `@`, one of their groups; and where there are no `roles` at all, an operator's own
    list of names (`is_listed`) means that each of them may do everything. Everybody else may nothing: whom an OAuth
    provider knows is not yet who was meant.

    Args:
        is_listed: whether whoever runs the server has written down these people, by name.
        claims: what an OAuth provider says of them; `groups`, and `email_verified`, are looked at.
    """
    if settings.login:
        account = accounts_of(settings).get(name)
        if account is None:
            return Person(name, Role.NONE)
        if account.role is not None:
            return _person(name, account.role)
    claims = claims or {}
    if claims.get("email") == name and claims.get("email_verified") in (False, "false"):
        return Person(name, Role.NONE)  # anybody may write any address into their profile
    groups = _groups(name, claims)
    for pattern, role in settings.roles.items():
        is_group = pattern.startswith(GROUP)
        if name and any(fnmatchcase(each, pattern.removeprefix(GROUP)) for each in (groups if is_group else [name])):
            return _person(name, Role(role))
    return Person(name, Role.ADMIN if is_listed and not settings.roles else Role.NONE)


class Standing:
    """What somebody was when they came in, and what they are now: the login file may have changed since.

    Roles of the settings do not change while a process lives.

    Args:
        name, settings, is_listed, claims: see `person_named`.
        login_id: of the login in the login file, which its logout ends; see `end_login`.

    Attributes:
        person: as they came.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        is_listed: bool,
        claims: Mapping[str, object] | None = None,
        login_id: str = "",
    ) -> None:
        self._name, self._settings, self._is_listed, self._claims = name, settings, is_listed, claims
        self._login_id = login_id
        self._password = self._password_now()
        self.person = person_named(name, settings, is_listed=is_listed, claims=claims)

    def now(self) -> Person:
        """Who they are now; nobody if they logged out, or their line is gone or has another password since."""
        if not self._settings.login:
            return self.person
        if self._password_now() != self._password or (self._login_id and has_ended(self._login_id, self._settings)):
            return Person(self._name, Role.NONE)
        return person_named(self._name, self._settings, is_listed=self._is_listed, claims=self._claims)

    def _password_now(self) -> str:
        account = accounts_of(self._settings).get(self._name) if self._settings.login else None
        return "" if account is None else account.password


def _groups(name: str, claims: Mapping[str, object]) -> list[str]:
    """Of the claims; none where they are somebody else's, of an older login for instance."""
    told = claims.get("groups") if name in claims.values() else None
    return [each for each in told if isinstance(each, str)] if isinstance(told, list) else []


def _person(name: str, role: Role) -> Person:
    """A name with a `*` would find the jobs of others too, where jobs are looked for by their owner."""
    return Person(name, Role.NONE if role is Role.OWN and "*" in name else role)


def accounts_of(settings: Settings) -> Mapping[str, Account]:
    """Of the login file; none where it cannot be read just now, for then nobody may anything."""
    try:
        return read_login(settings.login)
    except InvalidParams:
        return {}


def stranger(settings: Settings, *, is_own_machine: bool) -> Person:
    """Somebody whom nobody asked: on this machine they may everything; from elsewhere what `roles` says of
    `anonymous`, by that very name."""
    if is_own_machine:
        return Person()
    return Person("", Role(settings.roles.get(ANONYMOUS, Role.NONE)))
