"""The space of a study: where the arguments of its trials come from. Optuna is imported when it is used."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jobkit.model import InvalidParams, JobkitError
from jobkit.tasks.values import plain, short_repr

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Where the arguments of a trial come from: distributions as JSON by name, or a function of a trial.
Space = Mapping[str, Any] | Callable[..., Any]

#: Types of the values that Optuna can choose among.
_CHOICES = (type(None), bool, int, float, str)


def load_optuna() -> Any:
    """Return the module `optuna`.

    Raises:
        JobkitError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise JobkitError(
            'studies need Optuna, here and where workers run: pip install "panel-jobkit[optuna]"'
        ) from None
    return optuna


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's lines about each study and its warnings about experimental features out of cells and logs."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def checked_space(space: object) -> tuple[Space, dict[str, BaseDistribution]]:
    """Return the checked space of a study as it is sent, and the distributions of its names; {} for a function.

    Raises:
        InvalidParams: it is no space; names what is wrong.
    """
    if isinstance(space, Mapping):
        if not space:
            raise InvalidParams(
                'space is empty: give each argument a range or a list, like {"lr": (1e-4, 0.1, "log")}', "space"
            )
        found = {_name(name): _distribution(name, given) for name, given in space.items()}
        to_json = load_optuna().distributions.distribution_to_json
        return {name: json.loads(to_json(each)) for name, each in found.items()}, found
    if callable(space):
        return space, {}
    given = "" if space is None else f", not {short_repr(space, 60)}"
    raise InvalidParams(
        'a study needs a space: a dict like {"lr": (1e-4, 0.1, "log"), "layers": (1, 8), "opt": ["adam", "sgd"]}, or a '
        f"function of an Optuna trial that returns the arguments of the objective{given}",
        "space",
    )


def ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the lowest and the highest value of a range, or all values of a list."""
    found: Any = distribution
    return tuple(found.choices) if hasattr(found, "choices") else (found.low, found.high)


def sampler_of(space: Space) -> Callable[[optuna.Trial], dict[str, Any]]:
    """Return a function that gives a trial its arguments. On a trial that has some already, it gives it the others.

    That raises InvalidParams if the user's function returns no arguments.
    """
    optuna = load_optuna()
    if callable(space):
        return lambda trial: _arguments(space(trial))
    known = {name: optuna.distributions.json_to_distribution(json.dumps(each)) for name, each in space.items()}
    return lambda trial: {name: _suggested(trial, name, each) for name, each in known.items()}


def sample_of(space: Space) -> dict[str, Any]:
    """Return the arguments of a trial that is not run, to check them."""
    optuna = load_optuna()
    with quiet():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        return sampler_of(space)(study.ask())


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidParams(f"space names arguments of the objective, not {short_repr(name, 60)}", "space")
    return name


def _distribution(name: str, given: Any) -> Any:
    of: Any = load_optuna().distributions
    if isinstance(given, (of.FloatDistribution, of.IntDistribution, of.CategoricalDistribution)):
        choices = list(getattr(given, "choices", ()))
    elif isinstance(given, list):
        choices = given
    else:
        return _range(name, given)
    if isinstance(given, list) and not given:
        raise InvalidParams(f"space[{name!r}] is an empty list: give the values to choose from", "space")
    for each in choices:
        if not isinstance(each, _CHOICES):
            raise InvalidParams(
                f"space[{name!r}] may choose among numbers, texts, True, False and None, not {short_repr(each, 60)}: "
                "let it choose a name, and look that up in the objective",
                "space",
            )
    return of.CategoricalDistribution(given) if isinstance(given, list) else given


def _range(name: str, given: Any) -> Any:
    of: Any = load_optuna().distributions
    parts = given if isinstance(given, tuple) else ()
    numbers = [each for each in parts[:2] if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(numbers) != 2 or parts[2:] not in ((), ("log",)) or not all(map(math.isfinite, numbers)):
        raise InvalidParams(
            f'space[{name!r}] must be (low, high), (low, high, "log"), a list of values or a distribution of Optuna, '
            f"not {short_repr(given, 60)}",
            "space",
        )
    low, high, is_log = *numbers, len(parts) == 3
    if low > high:
        raise InvalidParams(f"space[{name!r}] begins at {low}, above its end {high}", "space")
    if is_log and low <= 0:
        raise InvalidParams(f'space[{name!r}] is "log", so it must begin above 0, not at {low}', "space")
    kind = of.IntDistribution if all(isinstance(each, int) for each in numbers) else of.FloatDistribution
    return kind(low, high, log=is_log)


def _suggested(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    if hasattr(distribution, "choices"):
        return trial.suggest_categorical(name, distribution.choices)
    is_int = type(distribution).__name__ == "IntDistribution"
    suggest: Any = trial.suggest_int if is_int else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _arguments(returned: Any) -> dict[str, Any]:
    """Return the arguments that a user's function has returned, as plain data."""
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        raise InvalidParams(
            f"the function of the space must return a dict of arguments by name, not {short_repr(returned, 60)}",
            "space",
        )
    made = {}
    for name, value in returned.items():
        try:
            made[name] = plain(value)
        except ValueError:
            raise InvalidParams(
                f"the function of the space returned {short_repr(value, 60)} for {name!r}: arguments of trials are "
                "numbers, texts, lists and dicts",
                "space",
            ) from None
    return made
