"""The group that loads its commands late, and turns every error into one sentence and an exit status.

Status: 0 done (or the job succeeded), 1 it failed, 2 bad input, 3 the job was cancelled, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any, NoReturn

import click

from jobkit.model import InvalidParams, JobkitError, JobNotFound, UnknownTask

FAILED, BAD_INPUT, CANCELLED, INTERRUPTED = 1, 2, 3, 130


class BadInput(JobkitError):
    """Something typed on the command line that cannot be meant."""


class Commands(click.Group):
    """See the module's docstring. `commands_by_module` is name -> (module, line of help)."""

    def __init__(self, *args: Any, commands_by_module: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._modules = commands_by_module

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        module = importlib.import_module(self._modules[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._modules and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self._modules, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; commands are {', '.join(self._modules)}"
            raise BadInput(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing a single one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._modules.items()])

    def main(  # type: ignore[override]  # click tells by overload that it may not return; we never do
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Runs a command line and exits."""
        extra["standalone_mode"] = False
        try:
            status = super().main(args, prog_name or "jobkit", **extra)
        except click.ClickException as error:
            error.show()
            status = BAD_INPUT
        except (click.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        except (InvalidParams, UnknownTask, JobNotFound, BadInput) as error:
            status = _tell(error, BAD_INPUT)
        except JobkitError as error:
            status = _tell(error, FAILED)
        except BrokenPipeError:  # `jobkit logs ID | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = FAILED
        except Exception as error:
            if os.environ.get("JOBKIT_DEBUG"):
                raise
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
            click.echo(
                f"jobkit: this is a bug of jobkit: {type(error).__name__}: {error}{where}; "
                "JOBKIT_DEBUG=1 shows the traceback",
                err=True,
            )
            status = FAILED
        sys.exit(status if isinstance(status, int) else 0)


def _tell(error: JobkitError, status: int) -> int:
    from jobkit.cli.out import one_line

    click.echo(f"jobkit: {one_line(str(error))}", err=True)
    return status
