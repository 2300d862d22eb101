"""Commands about people: who may log in (`people`), and who did what (`audit`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobkit.cli import out
from jobkit.cli.group import BadInput
from jobkit.model.people import Role

if TYPE_CHECKING:
    from jobkit.people import Account

_ROLES = [str(role) for role in Role if role is not Role.NONE]


@click.command()
@click.argument("file")
@click.argument("name", required=False)
@click.option("--role", type=click.Choice(_ROLES), help="What they may. [as JOBKIT_ROLES says, or admin]")
@click.option("--remove", is_flag=True, help="Take them out of the file.")
@click.option("--json", "as_json", is_flag=True)
def people(file: str, name: str | None, role: str | None, remove: bool, as_json: bool) -> None:
    """Write the login file of `jobkit dashboard --login FILE`: put in NAME, or list who is in it.

    Asks for the password, twice on a terminal, and keeps a hash of it alone. Who is in already keeps the password where
    none is given.
    """
    from jobkit.people import Account, hashed, read_login, write_login

    accounts = dict(read_login(file)) if Path(file).exists() else {}
    if name is None:
        if remove or role:
            raise BadInput("say whose: jobkit people FILE NAME")
        _list(accounts, as_json)
        return
    if remove:
        if accounts.pop(name, None) is None:
            raise BadInput(f"{out.one_line(name)!r} is not in {file}")
        if not accounts:
            raise BadInput(f"{out.one_line(name)!r} is the only one in {file}; remove the file")
    else:
        if not name or len(name) > 200 or not name.isprintable():
            raise BadInput(f"a name has 1 to 200 printable characters, not {out.one_line(name)!r}")
        known = accounts.get(name)
        password = _ask(is_optional=known is not None)
        kept = known.role if known is not None and role is None else Role(role) if role else None
        if not password and known is not None:
            accounts[name] = Account(known.password if known.is_hashed else hashed(known.password), kept)
        else:
            accounts[name] = Account(hashed(password), kept)
    write_login(file, accounts)
    out.echo(f"{len(accounts)} {'person' if len(accounts) == 1 else 'people'} in {file}", err=True)


def _ask(*, is_optional: bool) -> str:
    """The password, from the terminal or from the first line of what is piped in."""
    if sys.stdin.isatty():
        default = "" if is_optional else None
        password: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True, default=default, show_default=False
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < 8 and not (is_optional and not password):
        raise BadInput("a password has at least 8 characters")
    if len(password) > 1024:
        raise BadInput("a password has at most 1,024 characters")
    return password


def _list(accounts: Mapping[str, Account], as_json: bool) -> None:
    rows = sorted(accounts.items())
    if as_json:
        out.echo_json(
            [{"name": name, "role": each.role and str(each.role), "is_hashed": each.is_hashed} for name, each in rows]
        )
        return
    out.table(
        ("NAME", "ROLE", "PASSWORD"),
        [
            (out.one_line(name), str(each.role or "by JOBKIT_ROLES"), "hashed" if each.is_hashed else "plain")
            for name, each in rows
        ],
    )


@click.command()
@click.option("--who", metavar="NAME", help="Only what this person did.")
@click.option("--action", metavar="NAME", help="Only these acts: cancel, retry, delete, ...")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def audit(who: str | None, action: str | None, limit: int, as_json: bool) -> None:
    """Who did what on pages, over HTTP and at the command line; newest first."""
    from jobkit.ui.words.format import ago

    entries = [
        entry
        for entry in out.connect().audit(limit if who is None and action is None else 20_000)
        if who in (None, entry.who) and action in (None, entry.action)
    ][:limit]
    if as_json:
        out.echo_json([entry.to_json() for entry in entries])
        return
    if not entries:
        out.echo("Nothing was done yet.", err=True)
        return
    now = out.now()
    out.table(
        ("WHEN", "WHO", "BY", "ACT", "ON", "OUTCOME", "NOTE"),
        [
            (
                ago(entry.at, now),
                out.one_line(entry.who or "somebody"),
                entry.via,
                out.one_line(entry.action),
                out.one_line(target_words(entry.on, entry.targets, entry.count)),
                entry.outcome if entry.times == 1 else f"{entry.outcome} {entry.times:,} times",
                out.one_line(entry.note),
            )
            for entry in entries
        ],
    )


def target_words(on: str, targets: tuple[str, ...], count: int) -> str:
    """`job 5f0c1234`, or `12 jobs` for many."""
    if count != 1 or not targets:
        return f"{count:,} {on}s"
    only = targets[0]
    return f"{on} {only[: out.SHOWN_ID] if on == 'job' else only}"
