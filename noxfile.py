"""The default tests on other Pythons, with the oldest dependencies, and with versions of redis-py that arq refuses.

    pip install nox uv
    nox -l                          # lists the sessions
    nox -s tests-3.13               # or lowest, "redis(8)"; arguments after -- go to pytest

A Python that is missing here is downloaded by uv, or its session is skipped.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lowest"]

#: Rooms that speak to the store by redis-py.
STORE = ("tests/store", "tests/client", "tests/worker", "tests/features/arq")

#: arq passes an option that redis-py 6 and newer warn about, and warnings fail tests.
ARQ_WARNING = "ignore:Call to '__init__' function with deprecated usage of input argument/s 'retry_on_timeout'"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the default tests."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the default tests with the oldest dependencies that pyproject.toml allows."""
    pins = f"{session.create_tmp()}/lowest.txt"
    compile_pins = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps")
    extras = [f"--extra={name}" for name in ("archive", "joblib", "optuna", "otel")]
    oldest = ("--resolution=lowest-direct", "--python=3.11")
    session.run(*compile_pins, *oldest, *extras, "pyproject.toml", "-o", pins, external=True)
    session.install("-e", ".[test]", "-c", pins)
    # Schemas of files and types of users' code are not a matter of old packages, but their checkers need newer ones.
    session.run("pytest", "--ignore=tests/test_project_files.py", "--ignore=tests/test_typing_api.py", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("version", ["6", "7", "8"], ids=["6", "7", "8"])
def redis(session: nox.Session, version: str) -> None:
    """Run the tests of the store with a redis-py that is newer than arq allows."""
    session.install("-e", ".[test]")
    session.install("--no-deps", f"redis=={version}.*")
    session.run("pytest", "-W", f"{ARQ_WARNING}:DeprecationWarning", *(session.posargs or STORE))
