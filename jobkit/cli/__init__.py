"""The command line: `jobkit`.

Commands live in modules by theme and are imported when they are called, so that `jobkit --help` and the small ones
start at once. What goes wrong is one sentence on stderr and an exit status, see `group`.
"""

from __future__ import annotations

import os

import click

from jobkit.cli.group import Commands

#: Command -> the module that has it and its line in `--help`, in the order of a job's life.
COMMANDS = {
    "up": ("run", "Server, workers and dashboard in the foreground."),
    "worker": ("run", "Run jobs."),
    "dashboard": ("run", "The dashboard alone."),
    "submit": ("act", "Submit a job; prints its id."),
    "jobs": ("look", "List jobs, newest first."),
    "show": ("look", "All about one job."),
    "watch": ("look", "Follow a job to its end."),
    "logs": ("look", "What a job printed."),
    "cancel": ("act", "Ask jobs to stop."),
    "retry": ("act", "Run ended jobs once more."),
    "failed": ("failed", "Failed jobs in groups: list, show, retry, rm, mute, resolve."),
    "rm": ("act", "Forget ended jobs."),
    "prune": ("act", "Forget the jobs whose time is over."),
    "export": ("move", "Write jobs down as JSON lines."),
    "import": ("move", "Take up jobs that were exported."),
    "schedule": ("schedules", "Run a task again and again, or later once."),
    "schedules": ("schedules", "List schedules; pause, resume, run, rm."),
    "tasks": ("look", "Tasks that can be submitted."),
    "queues": ("look", "Queues and how much waits in them."),
    "workers": ("look", "Workers and what they do."),
    "stats": ("stats", "Everything in numbers, once or live."),
    "pause": ("steer", "Let nothing more of a queue or task start."),
    "resume": ("steer", "Let a paused queue or task go on."),
    "move": ("steer", "Let waiting jobs wait in another queue or priority."),
    "limit": ("limit", "Limit how many jobs of a queue or task may run."),
    "stop": ("act", "Ask workers to finish their jobs and exit."),
    "audit": ("people", "Who did what."),
    "people": ("people", "Names, passwords and roles of a login file."),
    "token": ("token", "Make a token for the HTTP API."),
    "down": ("run", "Stop the embedded server and its workers."),
    "doctor": ("doctor", "Check that everything is in order."),
}


def _version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from jobkit import __version__

        click.echo(f"jobkit {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    commands_by_module={name: (f"jobkit.cli.{module}", line) for name, (module, line) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--url", metavar="URL", help="Where jobs go: local://, redis://host, ... [JOBKIT_URL]")
@click.option("--namespace", metavar="NAME", help="Prefix of every key and channel. [JOBKIT_NAMESPACE]")
@click.option("--home", metavar="DIR", help="Directory of the embedded server. [JOBKIT_HOME]")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main(url: str | None, namespace: str | None, home: str | None) -> None:
    """Long jobs: submit them, watch them live, get the result later."""
    # An option is an environment variable from here on: the processes that a command starts must see it too.
    for name, value in (("URL", url), ("NAMESPACE", namespace), ("HOME", home)):
        if value is not None:
            os.environ[f"JOBKIT_{name}"] = value
