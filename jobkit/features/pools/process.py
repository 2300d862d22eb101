"""The process of the autoscaler, and how it is kept alive: `python -m jobkit.features.pools.process`.

For an embedded server it is a service of the home's supervisor. For another Redis it is a detached process on the
machine whose kit has made a pool, which starts it again if it dies; `jobkit pools run` is the same in the foreground.
It ends when the last pool has been removed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from jobkit.embedded import attach
from jobkit.embedded.children import Child, Keeper
from jobkit.embedded.demand import Service, end_service, keep_service
from jobkit.embedded.home import Home, append_private, make_private, say
from jobkit.embedded.launch import environment
from jobkit.features.pools.autoscaler import Autoscaler
from jobkit.features.pools.launcher import worker_settings
from jobkit.features.pools.store import PoolStore
from jobkit.model import JobkitError
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.pools")

#: Seconds without a pool after which it ends.
_UNNEEDED_S = 60.0

#: Member of a shared home with whose credentials the workers of its pools come.
_MEMBER = "pools"


def ensure_autoscaler(settings: Settings) -> None:
    """Have an autoscaler started for these settings, unless one runs. Raises JobkitError if that is not possible."""
    home = Home.at(settings.home)
    if settings.is_embedded:
        keep_service(
            home,
            _service(settings),
            Service("jobkit.features.pools.process", ("--namespace", settings.namespace), False),
        )
    elif not asyncio.run(_manager(settings)):
        _start_detached(settings, home)


def _service(settings: Settings) -> str:
    return f"pools-{settings.namespace}"


async def _manager(settings: Settings) -> str:
    store = RedisStore(settings)
    try:
        return await store.part(PoolStore).manager()
    finally:
        await store.close()


def _start_detached(settings: Settings, home: Home) -> None:
    try:
        make_private(home.path, "JOBKIT_HOME")
        make_private(home.logs, "the jobkit home's directory")
        with append_private(home.logs / f"{_service(settings)}.log") as log:
            subprocess.Popen(
                [sys.executable, "-P", "-m", "jobkit.features.pools.process", "--keep"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment(), **worker_settings(settings, ""), "JOBKIT_HOME": str(home.path)},
                cwd=home.path,
                start_new_session=True,
            )
    except OSError as error:
        raise JobkitError(
            f"the autoscaler could not be started ({error.strerror or error}): `jobkit pools run`"
        ) from None


def run_autoscaler(settings: Settings, *, ends_unneeded: bool = False) -> None:
    """Run an autoscaler until SIGTERM or Ctrl-C; blocks. Workers go on when it ends."""
    asyncio.run(_run(settings, ends_unneeded))


async def _run(settings: Settings, ends_unneeded: bool) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    store = RedisStore(attach(settings) if settings.is_embedded else settings)
    scaler = Autoscaler(
        store.settings,
        store,
        environment=_environment(settings, store.settings),
        ends_after_s=_UNNEEDED_S if ends_unneeded else None,
    )
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await scaler.run()
            if ends_unneeded and settings.is_embedded:
                home = Home.at(settings.home)
                end_service(home, _service(settings))
                await asyncio.to_thread(_revoke_workers, settings)
                if await store.part(PoolStore).records():  # made just now
                    ensure_autoscaler(settings)
        if settings.is_embedded and Home.at(settings.home).status().get("state") == "stopping":
            await scaler.end_workers(settings.drain)
    finally:
        await scaler.close()
        await store.close()


def _environment(settings: Settings, served: Settings) -> Callable[[str], Mapping[str, str]]:
    """Return what gives the environment of workers on an engine; those of a shared home come through its gateway."""
    if not settings.is_embedded:
        return partial(worker_settings, served)

    def of_home(engine: str) -> Mapping[str, str]:
        from jobkit.features.sharing import hosting  # takes 20 MB

        home = Home.at(settings.home)
        if engine == "local" or not hosting.is_shared(home):
            return worker_settings(served, engine)
        member = hosting.environment_for(settings, _MEMBER)
        return {**worker_settings(replace(served, url=member["JOBKIT_URL"], secret="", results=""), engine), **member}

    return of_home


def _revoke_workers(settings: Settings) -> None:
    """Refuse the credentials of the workers of all pools, which are gone."""
    from jobkit.features.sharing import hosting

    hosting.end_environment(settings, _MEMBER)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM, or until no pool is left."""
    parser = argparse.ArgumentParser(prog="jobkit.features.pools.process")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--namespace")
    parser.add_argument("--keep", action="store_true", help="Start it in another process, again if that dies.")
    options = parser.parse_args(argv)
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if options.keep:
        argv = [sys.executable, "-P", "-m", "jobkit.features.pools.process"]
        child = Child("autoscaler", argv, give_up=frozenset({0}), death_signal=signal.SIGTERM, say=say)
        with Keeper([child]) as keeper:
            keeper.run()
            keeper.stop(10.0)
        return 0
    try:
        settings = Settings.load(home=options.home, namespace=options.namespace, url=options.home and "local://")
        run_autoscaler(settings, ends_unneeded=True)
    except JobkitError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
