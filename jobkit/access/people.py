"""Users, passwords and roles: the login file, and the permissions in the settings.

The file is JSON: `{"ada": "a long password"}`, or with a role and a hash instead of the password:
`{"ada": {"password": "scrypt$...", "role": "operate"}}`. `jobkit people` writes it. Dashboard, HTTP and CLI share
this module.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import IO

from jobkit.access.own_machine import PROXIED_VARIABLE, write_private
from jobkit.model import InvalidParams
from jobkit.model.person import Person, Role
from jobkit.settings import Settings, check_private

#: Name in `roles` for unauthenticated remote users, for instance behind a proxy that authenticates them.
ANONYMOUS = "anonymous"

#: Prefix of a pattern in `roles` that matches groups instead of names.
GROUP = "@"

#: Cost of a hash: 16 MiB and about 50 ms. OWASP's parameters for scrypt with p=5 at half the memory.
_N, _R, _P = 2**14, 8, 5
_MAX_MEMORY = 64 * 2**20

#: Longer passwords are rejected without hashing.
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Account:
    """One entry of the login file. `role` is None if the setting `roles` decides."""

    password: str = field(repr=False)
    role: Role | None = None

    @property
    def is_hashed(self) -> bool:
        return self.password.startswith("scrypt$")


def hashed(password: str) -> str:
    """Return the hash of a password for the login file: `scrypt$n$r$p$salt$key`."""
    salt = secrets.token_bytes(16)
    return "$".join(["scrypt", f"{_N}", f"{_R}", f"{_P}", _base64(salt), _base64(_key(password, salt, _N, _R, _P))])


def is_password(given: str, account: Account | None) -> bool:
    """Return True if it is the account's password. Takes the same time if there is no such account or no hash."""
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
    """Parse a hash. Raises ValueError if it is not one of ours."""
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
    """Return the accounts of a login file by name.

    Raises:
        InvalidParams: it cannot be read, other users can read it, or its content is not valid.
    """
    file = Path(path)
    try:
        facts = check_private(file, "the login file", "login")
        return _read(str(file), facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise InvalidParams(f"the login file {file} cannot be read: {error.strerror or error}", "login") from None


@lru_cache(maxsize=8)
def _read(path: str, _changed_ns: int, _size: int) -> Mapping[str, Account]:
    """Parse the file once per change; it is read on every request."""
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
    role = entry.get("role")
    if role is not None and (not isinstance(role, str) or role not in Role._value2member_map_):
        raise InvalidParams(f"{where}: role must be one of {', '.join(Role)}, not {role!r}", "roles")
    account = Account(entry["password"], None if role is None else Role(role))
    if account.is_hashed:
        try:
            _hash_parts(account.password)
        except ValueError:
            raise InvalidParams(f"{where} has a hash that cannot be read; `jobkit people` makes one", "login") from None
    return account


def write_login(path: str | Path, accounts: Mapping[str, Account]) -> None:
    """Replace a login file, atomically, with mode 0600."""
    told = {
        name: {"password": account.password} | ({"role": str(account.role)} if account.role else {})
        for name, account in accounts.items()
    }
    write_private(Path(path), f"{json.dumps(told, indent=2, ensure_ascii=False)}\n")


# -- logins that have ended --------------------------------------------------------------------------------------------

#: Lifetime of a login's cookie in days.
LOGIN_DAYS = 7


def end_login(login_id: str, settings: Settings) -> None:
    """Reject a login from now on in all processes that share this home, even if its cookie still exists.

    Raises:
        OSError: the file of ended logins cannot be written.
    """
    path = _ended_logins(settings)
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        lock(file)
        now = time.time()
        kept = [line for line in file if float(line.split()[1]) > now]
        file.seek(0)
        file.truncate()
        file.writelines([*kept, f"{login_id} {now + LOGIN_DAYS * 86_400:.0f}\n"])


def has_ended(login_id: str, settings: Settings) -> bool:
    """Return True if `end_login` ended this login, or if that cannot be read."""
    try:
        with _ended_logins(settings).open(encoding="ascii") as file:
            lock(file, is_shared=True)
            return any(line.split()[0] == login_id for line in file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def lock(file: IO[str], *, is_shared: bool = False) -> None:
    """Wait for the lock of a file, which its end releases. No-op on Windows, on which one process serves."""
    with suppress(ModuleNotFoundError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)


def split_seal(cookie: bytes | None) -> tuple[str, str]:
    """Return `(password seal, login id)` from the content of the cookie `user_seal`."""
    seal, _, login_id = (cookie or b"").decode("ascii", "replace").partition(".")
    return seal, login_id


def _ended_logins(settings: Settings) -> Path:
    return settings.home.expanduser().absolute() / "ended-logins"


# -- who may what ------------------------------------------------------------------------------------------------------


def person_named(
    name: str, settings: Settings, *, is_listed: bool, claims: Mapping[str, object] | None = None
) -> Person:
    """Return the user with this login name, with their role.

    The role comes from the first of these that applies: the login file; the first pattern in `settings.roles` that
    matches the name, or one of the groups if the pattern starts with `@`; without any `roles`, admin if the operator
    has listed the users by name (`is_listed`). All other users get no permission: signing in with an OAuth provider
    does not grant access.

    Args:
        is_listed: True if the operator of the server has listed the allowed users by name.
        claims: the OAuth provider's claims; `groups` and `email_verified` are used.
    """
    if settings.login:
        account = accounts_of(settings).get(name)
        if account is None:
            return Person(name, Role.NONE)
        if account.role is not None:
            return _person(name, account.role)
    claims = claims or {}
    if claims.get("email") == name and claims.get("email_verified") in (False, "false"):
        return Person(name, Role.NONE)  # unverified: users may write any address into their profile
    groups = _groups(name, claims)
    for pattern, role in settings.roles.items():
        is_group = pattern.startswith(GROUP)
        if name and any(fnmatchcase(each, pattern.removeprefix(GROUP)) for each in (groups if is_group else [name])):
            return _person(name, Role(role))
    return Person(name, Role.ADMIN if is_listed and not settings.roles else Role.NONE)


class LoginState:
    """A login: the user at the time of login, and now. The login file may have changed since; settings do not.

    Args:
        name, settings, is_listed, claims: see `person_named`.
        login_id: id of the login in the login file, which a logout ends; see `end_login`.

    Attributes:
        person: the user at the time of login.
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
        """Return the current user; without a role if they logged out, were removed or got a new password."""
        if not self._settings.login:
            return self.person
        if self._password_now() != self._password or (self._login_id and has_ended(self._login_id, self._settings)):
            return Person(self._name, Role.NONE)
        return person_named(self._name, self._settings, is_listed=self._is_listed, claims=self._claims)

    def _password_now(self) -> str:
        account = accounts_of(self._settings).get(self._name) if self._settings.login else None
        return "" if account is None else account.password


def _groups(name: str, claims: Mapping[str, object]) -> list[str]:
    """Return the groups in the claims; empty if the claims are another user's, for instance of an earlier login."""
    told = claims.get("groups") if name in claims.values() else None
    return [each for each in told if isinstance(each, str)] if isinstance(told, list) else []


def _person(name: str, role: Role) -> Person:
    """Return the user; without a role if `own` and the name contains `*`, which would match other owners."""
    return Person(name, Role.NONE if role is Role.OWN and "*" in name else role)


def accounts_of(settings: Settings) -> Mapping[str, Account]:
    """Return the accounts of the login file; empty if it cannot be read, so that no user has access."""
    try:
        return read_login(settings.login)
    except InvalidParams:
        return {}


def stranger(settings: Settings, *, is_own_machine: bool) -> Person:
    """Return the unauthenticated user: admin on this machine, else with the exact role of `anonymous` in `roles`.

    Behind the proxy of a JupyterHub's user it is that user.
    """
    if is_own_machine:
        role, _, name = os.environ.get(PROXIED_VARIABLE, "").partition(":")
        return _person(name, Role(role or Role.ADMIN))
    return Person("", Role(settings.roles.get(ANONYMOUS, Role.NONE)))
