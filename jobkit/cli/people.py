"""Commands for users: people (the login file), token (for the HTTP API)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

import jobkit
from jobkit.access.people import Account, hashed, read_login, write_login
from jobkit.cli import BadInput, age, as_json_option, options, out
from jobkit.features import modules
from jobkit.model.person import Role

_ROLES = [str(role) for role in Role if role is not Role.NONE]


@click.command()
@click.argument("file")
@click.argument("name", required=False)
@click.option("--role", type=click.Choice(_ROLES), help="Role of the user. [by JOBKIT_ROLES, or admin]")
@click.option("--remove", is_flag=True, help="Remove the user from the file.")
@as_json_option
def people(file: str, name: str | None, role: str | None, remove: bool, as_json: bool) -> None:
    """Edit the login file of `jobkit dashboard --login FILE`: add or change NAME, or list all users.

    Asks for the password, twice on a terminal, and stores only its hash. An existing user keeps the password if none is
    given.
    """
    accounts = dict(read_login(file)) if Path(file).exists() else {}
    if name is None:
        if remove or role:
            raise BadInput("give a name: jobkit people FILE NAME")
        if not Path(file).exists():
            raise BadInput(f"{file} does not exist; `jobkit people {file} NAME` creates it")
        return _list(accounts, as_json)
    if remove:
        if accounts.pop(name, None) is None:
            raise BadInput(f"{name!r} is not in {file}")
        if not accounts:
            raise BadInput(f"{name!r} is the only user in {file}; delete the file instead")
    else:
        if not name or len(name) > 200 or not name.isprintable():
            raise BadInput(f"a name must have 1 to 200 printable characters, not {name!r}")
        known = accounts.get(name)
        password = _ask(is_optional=known is not None)
        kept = Role(role) if role else known.role if known else None
        if not password and known is not None:
            accounts[name] = Account(known.password if known.is_hashed else hashed(known.password), kept)
        else:
            accounts[name] = Account(hashed(password), kept)
    write_login(file, accounts)
    out.echo(f"{out.count(len(accounts), 'user')} in {file}", err=True)


def _ask(*, is_optional: bool) -> str:
    """Read the password from the terminal, or from the first line of a pipe."""
    if sys.stdin.isatty():
        default = "" if is_optional else None
        password: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True, default=default, show_default=False
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < 8 and not (is_optional and not password):
        raise BadInput("a password must have at least 8 characters")
    if len(password) > 1024:
        raise BadInput("a password must have at most 1,024 characters")
    return password


def _list(accounts: Mapping[str, Account], as_json: bool) -> None:
    found = [
        {"name": name, "role": each.role and str(each.role), "is_hashed": each.is_hashed}
        for name, each in sorted(accounts.items())
    ]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "NAME": itemgetter("name"),
        "ROLE": lambda each: each["role"] or "by JOBKIT_ROLES",
        "PASSWORD": lambda each: "hashed" if each["is_hashed"] else "plain",
    }
    out.listing(as_json, found, columns, to_json=dict)


@click.command()
@click.option("--scope", default="", metavar="SCOPES", help="Scopes: view, submit, operate; comma-separated. [view]")
@click.option("--tasks", default="", metavar="PATTERNS", help="Only these tasks: 'train_*,report'. [all]")
@click.option(
    "--expires", default="30d", show_default=True, metavar="TIME", callback=age, help="Lifetime: 90, 15m, 12h, 4w."
)
@click.option("--name", "subject", default="", metavar="NAME", help="Name of its user, who owns the submitted jobs.")
@click.option("--own", "only_own", is_flag=True, help="Only jobs that --name owns.")
@options(*(module.OPTIONS for module in modules("token")))
@click.option("--revoke", metavar="TOKEN", help="Revoke this token.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with id and expiry.")
def token(scope: str, tasks: str, expires: float, revoke: str | None, as_json: bool, **rights: Any) -> None:
    """Create a token for the HTTP API and print it. It cannot be shown again, only revoked."""
    from jobkit.client.loop import background
    from jobkit.http.auth.access import InvalidToken, Tokens

    kit = jobkit.connect()
    tokens = Tokens(kit.settings.login_secret, kit.settings.namespace)
    if revoke is not None:
        try:
            grant = tokens.read(revoke.strip())
        except InvalidToken as error:
            raise BadInput(f"{error}; it is not valid here") from None
        background.call(kit.verbs.store.web.revoke(grant.token_id, grant.expires_at))
        return out.echo(f"revoked {grant.token_id}", err=True)
    claims = {name: claim for module in modules("token") for name, claim in module.claims(rights).items()}
    scopes = _parts(scope) or ([] if claims else ["view"])
    made, grant = tokens.make(scopes, lifetime_s=expires, tasks=_parts(tasks), claims=claims, **rights)
    if as_json:
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(grant.expires_at))
        out.echo_json({"token": made, "id": grant.token_id, "scopes": scopes, "expires_at": ends})
    else:
        out.echo(made)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
