"""Commands of jobkit in texts: found as a shell would, and parsed by the commands themselves."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from jobkit.cli import main
from tests.docs.reading import fences


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each `jobkit COMMAND ...` after a prompt, `exec` or `=` of a service, or at a line's start."""
    for line in re.findall(r"(?m)^(?:[\w@.-]*\$ |ExecStart=|ExecReload=|    )?(.*\bjobkit .*)$", text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        for is_operator, words in groupby(lexer, lambda word: bool(re.fullmatch("[|&;<>]+", word))):
            found = [word for word in words if not re.match(r"[A-Z_]+=", word)]
            if not is_operator and found[:1] == ["exec"]:
                del found[0]
            if not is_operator and found and found[0].rpartition("/")[2] == "jobkit" and found[1:]:
                yield found[1:]


def commands_of(page: Path) -> list[list[str]]:
    """Return the commands in the blocks of a page."""
    return list(
        commands_in("".join(each.text for each in fences(page) if each.language in ("console", "bash", "make")))
    )


def check_command(words: list[str]) -> None:
    """Raise click.ClickException unless the command exists and takes these words."""
    command: Any = main
    context = main.make_context("jobkit", list(words), ignore_unknown_options=False)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def check_options(words: list[str]) -> None:
    """Raise AssertionError unless the command and its options exist; arguments may be missing, or names for them."""
    context = click.Context(main, info_name="jobkit")
    command: Any = main.get_command(context, words[0])
    assert command is not None, f"jobkit {words[0]} does not exist"
    while isinstance(command, click.Group) and len(words) > 1 and command.get_command(context, words[1]):
        command, words = command.get_command(context, words[1]), words[1:]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    for word in words[1:]:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.partition("=")[0] in known, f"jobkit {words[0]} has no {word}"
