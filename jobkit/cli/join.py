"""`jobkit join`: this machine runs jobs of another one that shares its embedded server."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from jobkit import __version__
from jobkit.cli import BadInput, out
from jobkit.cli.worker import queues_of
from jobkit.joined import checked_place, joined_places, membership_of
from jobkit.settings import Settings
from jobkit.sharing.joining import join as redeem
from jobkit.sharing.joining import leave
from jobkit.sharing.members import JoinReply
from jobkit.sharing.rights import MemberRole
from jobkit.sharing.service import install, uninstall
from jobkit.sharing.words import read_word
from jobkit.store.binary import check_system
from jobkit.system.hardware import gpus
from jobkit.tasks import option_values


@click.command()
@click.argument("word", required=False, metavar="[WORD]")
@click.option("--as", "name", metavar="NAME", help="Name of the place on this machine. [that of the sharing machine]")
@click.option("--no-worker", is_flag=True, help="Only join; start no worker.")
@click.option("--service", "is_service", is_flag=True, help="Run the worker as a service, also after a restart.")
@click.option("--leave", "left", metavar="NAME", help="Leave this place: end its service and delete its credentials.")
@click.option("--task-module", "-t", "modules", multiple=True, metavar="MODULE", help="Module with tasks to import.")
@click.option("--queue", "-q", "queues", multiple=True, metavar="QUEUE", help="Serve this queue; may be repeated.")
@click.option("--slots", "-c", type=click.IntRange(1, 10_000), help="Maximum number of running jobs. [CPUs, 2 or more]")
@click.option("--processes", "-n", type=click.IntRange(1, 512), help="Number of worker processes. [1]")
@click.option("--resources", metavar="NAME=N,...", help="Resources for jobs that need them. [gpu=N for N GPUs]")
def join(
    word: str | None,
    name: str | None,
    no_worker: bool,
    is_service: bool,
    left: str | None,
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    slots: int | None,
    processes: int | None,
    resources: str | None,
) -> None:
    """Join the machine that printed WORD, and run its jobs here until Ctrl-C.

    WORD is what `jobkit share` prints there, or the name of a place that was joined before. With -, or without WORD at
    a terminal, it is read from the input, where other users of this machine do not see it.
    """
    check_system()
    home = Settings.load(url="local://").home
    if left is not None:
        if word is not None:
            raise BadInput("--leave NAME takes no WORD")
        _leave(left, home)
        return
    options = worker_options(modules, queues, slots, processes, resources)  # checked before the word is used up
    if word is None or word == "-":
        word = _asked(is_stdin=word == "-")
    if word in joined_places(home):
        membership = membership_of(f"joined://{word}", home)
    else:
        membership, reply = redeem(read_word(word), home, name)
        out.say(f"joined {membership.machine} at {membership.address} as {reply.name} ({membership.role})")
        _warn_of_versions(reply)
    if no_worker or membership.role == MemberRole.VIEWER:
        out.say(f"use it with JOBKIT_URL={membership.url}, for instance `JOBKIT_URL={membership.url} jobkit jobs`")
        return
    environ = {"JOBKIT_URL": membership.url, "JOBKIT_HOME": str(home)}
    argv = [sys.executable, "-m", "jobkit", "worker", *options]
    if resources is None and (processes or 1) == 1 and (found := len(gpus())):
        argv += ["--resources", f"gpu={found}"]
        out.say(f"{out.count(found, 'GPU')} found, so the worker takes jobs that need gpu; --resources changes that")
    if is_service:
        stop = install(membership.name, argv, environ)
        out.say(f"the worker runs as a service of yours; `{stop}` ends it")
        if sys.platform != "darwin":
            out.say("it ends when you log out, unless you have run `loginctl enable-linger`")
        return
    out.say(f"a worker starts; scripts on this machine use JOBKIT_URL={membership.url}")
    inherited = {key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_PLACE}
    sys.stdout.flush()
    # The word does not stay in the list of processes, and would be of no use: it is valid once.
    os.execve(sys.executable, argv, {**inherited, **environ})


def _leave(name: str, home: Path) -> None:
    checked_place(name)
    if uninstall(name):
        out.say("its service has ended")
    if why := leave(name, home):
        out.say(f"left {name}; the sharing machine does not know yet ({why}): run `jobkit share --revoke` there")
    else:
        out.say(f"left {name}: its workers on this machine end, and the sharing machine refuses them from now on")


#: Settings that a joined place has itself.
_OF_ANOTHER_PLACE = ("JOBKIT_NAMESPACE", "JOBKIT_SECRET", "JOBKIT_SECRET_FILE", "JOBKIT_TOKEN_SECRET")


def worker_options(
    modules: Sequence[str], queues: Sequence[str], slots: int | None, processes: int | None, resources: str | None
) -> list[str]:
    """Return these options for `jobkit worker`. Raises BadInput or InvalidParams."""
    queues_of(queues)
    if resources is not None:
        option_values.resources("--resources", resources)
    given = [("-t", module) for module in modules] + [("-q", queue) for queue in queues]
    given += [(option, str(value)) for option, value in (("-c", slots), ("-n", processes)) if value is not None]
    given += [] if resources is None else [("--resources", resources)]
    return [part for pair in given for part in pair]


def _asked(*, is_stdin: bool) -> str:
    if is_stdin:
        return sys.stdin.readline(10_000)
    if not sys.stdin.isatty():
        raise BadInput("`jobkit join` needs the word that `jobkit share` prints, or - to read it from the input")
    return str(click.prompt("Word", hide_input=True))


def _warn_of_versions(reply: JoinReply) -> None:
    here = ".".join(platform.python_version_tuple()[:2])
    if reply.python != here:
        out.say(
            f"this machine has Python {here} and {reply.machine} {reply.python}: functions that are sent with their "
            f"code from there run on workers with Python {reply.python} only; those of modules run here, too"
        )
    if reply.version != __version__:
        out.say(f"this machine has jobkit {__version__} and {reply.machine} {reply.version}: install the same one soon")
