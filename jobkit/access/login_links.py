"""Links that log a user in once, without a password: for colleagues, who then keep the session of their browser.

They belong to a login file and are kept beside it, as hashes. Opening a link only shows a button, because chat programs
and mail filters open links, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, TypeVar

from jobkit.access.people import Account, hashed, lock, read_login, write_login
from jobkit.model.person import Role

T = TypeVar("T")

#: Name of the parameter with the token.
LINK_FIELD = "link"


def invite(login: Path, name: str, role: Role, valid_s: float) -> str:
    """Return the token of a new link for a user, and add the user to the login file if necessary.

    A new user has no usable password. Raises OSError or InvalidParams if the files cannot be used.
    """
    accounts = dict(read_login(login)) if login.exists() else {}
    known = accounts.get(name)
    password = hashed(secrets.token_hex(32)) if known is None else known.password
    if known is None or known.role is not role:
        write_login(login, {**accounts, name: Account(password, role)})
    token = secrets.token_urlsafe(24)
    ends = int(time.time() + valid_s)
    _change(login, lambda links: ({**links, _digest(token): {"name": name, "ends": ends}}, None))
    return token


def name_of_link(login: Path, token: str) -> str:
    """Return the user of a link that is still valid, or ""."""
    return _change(login, lambda links: (links, _name(links, token)))


def use_link(login: Path, token: str) -> str:
    """Return the user of a link that is still valid, or "", and make it invalid."""

    def use(links: dict[str, Any]) -> tuple[dict[str, Any], str]:
        kept = {digest: link for digest, link in links.items() if digest != _digest(token)}
        return kept, _name(links, token)

    return _change(login, use)


def drop_links(login: Path, names: Collection[str]) -> None:
    """Make all links of these users invalid."""
    _change(
        login,
        lambda links: ({digest: link for digest, link in links.items() if link["name"] not in names}, None),
    )


def _name(links: dict[str, Any], token: str) -> str:
    found = links.get(_digest(token)) if token else None
    return "" if found is None or time.time() >= found["ends"] else str(found["name"])


def _change(login: Path, change: Callable[[dict[str, Any]], tuple[dict[str, Any], T]]) -> T:
    """Replace the links of a login file by what `change` returns first; return the second. Drops expired links."""
    path = login.with_name(f"{login.name}.links")
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        lock(file)
        known = _links_in(file)
        changed, result = change(known)
        if changed != known:
            file.seek(0)
            file.truncate()
            json.dump(changed, file)
    return result


def _links_in(file: IO[str]) -> dict[str, Any]:
    try:
        told = json.load(file)
        return {digest: link for digest, link in told.items() if link["ends"] > time.time()}
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
