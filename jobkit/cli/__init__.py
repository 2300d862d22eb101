"""The command line: `jobkit`; the options that commands share, and how they end.

Commands are in modules by subject and imported when they are called, so `jobkit --help` and small commands start at
once. An error is one sentence on stderr and an exit status: 0 success (or the job succeeded), 1 failure, 2 bad input,
3 the job was cancelled, 130 Ctrl-C.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import wraps
from io import TextIOWrapper
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from jobkit import __version__
from jobkit.features import FEATURES
from jobkit.model import InvalidParams, JobkitError, JobNotFound, JobState, UnknownTask
from jobkit.model.format import seconds_in

if TYPE_CHECKING:
    from jobkit.client.forms import Deed, Noun
    from jobkit.client.kit import Kit

#: Command -> its module, and its line in `--help`, in the order of a job's life; then those of the features.
COMMANDS = {
    "up": ("serve", "Run server, workers and dashboard in the foreground."),
    "worker": ("worker", "Run jobs."),
    "dashboard": ("serve", "Serve the dashboard and the HTTP API."),
    "submit": ("jobs", "Submit a job and print its id."),
    "jobs": ("jobs", "List jobs, newest first."),
    "show": ("jobs", "Show everything about a job."),
    "watch": ("jobs", "Follow a job to its end."),
    "logs": ("jobs", "Print the log of a job."),
    "cancel": ("jobs", "Ask jobs to stop."),
    "retry": ("jobs", "Run ended jobs again."),
    "rm": ("jobs", "Delete ended jobs."),
    "prune": ("jobs", "Delete expired jobs."),
    "tasks": ("queues", "List, show, pause or resume tasks."),
    "queues": ("queues", "List, pause or resume queues."),
    "workers": ("worker", "List, drain or stop workers."),
    "stats": ("queues", "Show totals, once or live."),
    "move": ("jobs", "Move waiting jobs to another queue or priority."),
    "people": ("people", "Edit a login file: names, passwords, roles."),
    "token": ("people", "Create or revoke a token for the HTTP API."),
    "down": ("serve", "Stop the embedded server and its workers."),
}
COMMANDS = {name: (f"jobkit.cli.{module}", line) for name, (module, line) in COMMANDS.items()}
COMMANDS |= {
    name: (f"jobkit.features.{feature.name}.commands", line)
    for feature in FEATURES
    for name, line in feature.commands.items()
}

C = TypeVar("C", bound=Callable[..., Any])

FAILED, BAD_INPUT, CANCELLED, INTERRUPTED = 1, 2, 3, 130


class BadInput(JobkitError):
    """An argument or option on the command line is not valid."""


class Commands(click.Group):
    """The group of `COMMANDS`, which it imports when they are called. Turns errors into a sentence and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell asks for completions
                return None
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; commands are {', '.join(COMMANDS)}"
            raise BadInput(f"there is no command {cmd_name!r}{hint}")
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return commands without importing them, or the options."""
        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(  # type: ignore[override]  # an overload of click's returns; ours never does
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra["standalone_mode"] = False
        if os.environ.get("NO_COLOR"):
            extra["color"] = False
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # "✓" is not in each encoding: cp1252 of a file on Windows
        try:
            status = super().main(args, prog_name or "jobkit", **extra)
        except click.ClickException as error:
            error.show()
            status = BAD_INPUT
        except (click.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        except (InvalidParams, UnknownTask, JobNotFound, BadInput) as error:
            status = _report(error, BAD_INPUT)
        except JobkitError as error:
            status = _report(error, FAILED)
        except BrokenPipeError:  # `jobkit logs ID | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = FAILED
        except Exception as error:
            if os.environ.get("JOBKIT_DEBUG"):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = f" for {error.filename}" if error.filename else ""
                sys.exit(_report(JobkitError(f"there is no space on the disk{where}: free some"), FAILED))
            if isinstance(error, ModuleNotFoundError) and not (error.name or "jobkit").startswith("jobkit"):
                why = f"this needs the package {error.name}, which is missing: `pip install panel-jobkit` brings it"
                sys.exit(_report(JobkitError(why), FAILED))
            place = traceback.extract_tb(error.__traceback__)[-1]
            click.echo(
                f"jobkit: this is a bug in jobkit: {type(error).__name__}: {error} at {place.filename}:{place.lineno}; "
                "JOBKIT_DEBUG=1 shows the traceback",
                err=True,
            )
            status = FAILED
        sys.exit(status if isinstance(status, int) else 0)


def _report(error: JobkitError, status: int) -> int:
    from jobkit.model.terminal import clean

    click.echo(f"jobkit: {' '.join(map(clean, str(error).splitlines()))}", err=True)
    return status


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--url", metavar="URL", help="Store of the jobs: local://, redis://host, ... [JOBKIT_URL]")
@click.option("--namespace", metavar="NAME", help="Prefix of all keys and channels. [JOBKIT_NAMESPACE]")
@click.option("--home", metavar="DIR", help="Directory of the embedded server. [JOBKIT_HOME]")
@click.version_option(__version__, message="jobkit %(version)s", help="Show the version.")
def main(url: str | None, namespace: str | None, home: str | None) -> None:
    """Long jobs: submit them, watch them live, get the result later."""
    # Options become environment variables, so that the processes that a command starts get them too.
    for name, value in (("URL", url), ("NAMESPACE", namespace), ("HOME", home)):
        if value is not None:
            os.environ[f"JOBKIT_{name}"] = value


# -- options that several commands share -------------------------------------------------------------------------------

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; times in UTC.")


def complete(kind: str) -> dict[str, Any]:
    """Return the argument of a parameter that completes it in a shell; `kind`: see `jobkit.cli.completion`."""

    def found(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        module = importlib.import_module("jobkit.cli.completion")
        completed: list[CompletionItem[str]] = module.complete(kind, incomplete, ctx.find_root().params)
        return completed

    return {"shell_complete": found}


id_argument = click.argument("job_id", metavar="ID", **complete("jobs"))


def id_arguments(kind: str = "jobs", *, required: bool = True) -> Callable[[C], C]:
    return click.argument("job_ids", nargs=-1, required=required, metavar="ID...", **complete(kind))


def options(*each: Callable[[C], C]) -> Callable[[C], C]:
    """Return a decorator that adds all these options or arguments to a command."""

    def add(command: C) -> C:
        for one in reversed(each):
            command = one(command)
        return command

    return add


def state_option(kind: type[StrEnum], help: str) -> Callable[[C], C]:
    return click.option("--state", "-s", "states", multiple=True, type=click.Choice([*map(str, kind)]), help=help)


def limit_option(default: int, most: int, what: str = "jobs") -> Callable[[C], C]:
    kind = click.IntRange(1, most)
    help = f"Maximum number of {what}."
    return click.option("--limit", "-n", type=kind, default=default, show_default=True, help=help)


#: A search, its order, and how much of it.
search_options = options(
    click.argument("words", nargs=-1, metavar="[SEARCH]..."),
    click.option("--order", "-o", metavar="[-]COLUMN", default="", help="Sort by a column: took, -took, task, ..."),
    limit_option(50, 100_000),
)

#: Options that select jobs.
selection_options = options(
    state_option(JobState, "Only jobs in this state; may be repeated."),
    click.option("--task", "-t", metavar="NAME", help="Only jobs of this task.", **complete("tasks")),
    click.option("--queue", "-q", metavar="NAME", help="Only jobs of this queue.", **complete("queues")),
    click.option("--search", "-S", metavar="TEXT", help="Text in id, task, arguments, tags, owner, message or error."),
)


def age(_ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of `90`, `15m`, `2h`, `30d` or `4w`: a callback of options. Raises BadInput."""
    found = None if text is None else seconds_in(text)
    if text is not None and (found is None or found >= 1e12):
        raise BadInput(f"{option.opts[0]} must be a time like 90, 15m, 2h, 30d or 4w, not {text!r}")
    return found


#: Options of a job that is submitted, now or by a schedule.
job_options = options(
    click.option("--queue", "-q", metavar="NAME", help="Queue, instead of the task's default.", **complete("queues")),
    click.option("--priority", "-p", type=int, help="Priority; higher first."),
    click.option("--timeout", callback=age, metavar="TIME", help="Maximum run time per attempt: 90, 15m, 2h."),
    click.option("--retries", type=int, metavar="N", help="Maximum number of further attempts after a failure."),
    click.option("--tag", "tags", multiple=True, metavar="TEXT", help="Add a tag; may be repeated."),
)


def given(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in chosen.items() if value not in (None, ())}


def noun_command(command: Callable[..., Any]) -> click.Group:
    """Make the command of a noun: a group that lists, as the function does, if no subcommand is given."""

    @click.group(invoke_without_command=True)
    @wraps(command)
    def group(**options: Any) -> Any:
        ctx = click.get_current_context()
        if ctx.invoked_subcommand is None:
            return command(**options)
        for name in options:
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                option = next(each.opts[0] for each in ctx.command.params if each.name == name)
                raise BadInput(f"give {option} after the subcommand: {ctx.info_name} {ctx.invoked_subcommand} {option}")

    return group


def add_deeds(group: click.Group, noun: type[Noun], find: Callable[[Kit, str], str] = lambda _, name: name) -> None:
    """Add a command for each deed of a noun, which acts on the given names, prints these, and records the actions.

    Args:
        find: returns the name that a given one stands for.
    """
    words = noun.__name__.lower()
    for deed in noun.DEEDS:

        @group.command(name=deed.name, help=noun.summary(deed))
        @click.argument("names", nargs=-1, required=True, metavar=f"{noun.ON.upper()}...", **complete(words))
        def command(names: tuple[str, ...], deed: Deed = deed) -> None:
            import jobkit
            from jobkit.cli import out

            kit = jobkit.connect()
            verb = getattr(getattr(kit, words), deed.name)
            for name in [find(kit, each) for each in dict.fromkeys(names)]:
                if verb(name) is False:
                    out.echo(f"{name} is {deed.unchanged}", err=True)
                else:
                    out.echo(name)
                    out.note(kit, f"{deed.name}_{noun.ON}", noun.ON, [name])
