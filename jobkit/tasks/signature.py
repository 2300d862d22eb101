"""Parameters of a function or `Task` class, and binding of arguments.

A `Signature` is made once per task (evaluating hints takes a fraction of a millisecond); binding and checking take a
few microseconds, since every submit needs them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from types import GenericAlias
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from jobkit.above import public
from jobkit.model import InvalidParams
from jobkit.model.format import many
from jobkit.tasks.params import check, field_of
from jobkit.tasks.specs import ParamSpec, choice_of, hints_of, is_secret_kind, spec_of, with_default
from jobkit.tasks.values import is_struct, plain, with_part


class Signature(msgspec.Struct, frozen=True, dict=True):
    """Parameters of a callable.

    Attributes:
        params: its parameters in order, without `*args` and `**kwargs`.
        positional: names that may be given by position.
        positional_only: number of them that must be given by position.
        var_positional, var_keyword: names of `*args` and `**kwargs`, or "".
        defaults: the Python defaults by name.
        omits_defaults: do not pass keyword arguments that equal their default: functions in C (NumPy ufuncs) may reject
            some combinations, and notebooks set their defaults themselves.
    """

    params: tuple[ParamSpec, ...]
    positional: tuple[str, ...] = ()
    positional_only: int = 0
    var_positional: str = ""
    var_keyword: str = ""
    defaults: Mapping[str, Any] = {}
    omits_defaults: bool = False

    def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], function: str = "", options: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return all arguments of the call by name, checked and converted, with defaults.

        `function` is its name for messages, and `options` are names that belong into `.options(...)`.

        Extra positional and keyword arguments are under the names of the function's `*args` (a tuple) and `**kwargs` (a
        dict), unchecked, as in `inspect.BoundArguments.arguments`. Defaults are not checked. A default that is only
        known as JSON is left to the function.

        Raises:
            InvalidParams: an argument is missing, unknown, given twice or rejected; the message names it.
        """
        bound: dict[str, Any] = {}
        given: dict[str, Any] = dict(zip(self.positional, args, strict=False)) if args else {}
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in given:
                if not (self.var_keyword and name in self.positional[: self.positional_only]):
                    raise InvalidParams(f"argument {name!r} is given twice, by position and by name", name)
                extra[name] = value
            elif name in self._specs and name not in self.positional[: self.positional_only]:
                given[name] = value
            elif self.var_keyword:
                extra[name] = value
            else:
                self._refuse_name(name, options)
        defaults = self.defaults
        for spec in self.params:
            name = spec.name
            if name in given:
                bound[name] = check(spec, given[name])
            elif name in defaults:
                bound[name] = defaults[name]
            elif spec.required:
                self._refuse_missing(name, given, function)
        if len(args) > len(self.positional) and not self.var_positional:
            most = many(len(self.positional), "argument")
            raise InvalidParams(
                f"{_called(function)}takes at most {most} by position, but {len(args)} were given".lstrip()
            )
        if self.var_positional:
            bound[self.var_positional] = tuple(args[len(self.positional) :])
        if self.var_keyword:
            bound[self.var_keyword] = extra
        return bound

    def call_args(self, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return `(args, kwargs)` for a bound call: by name, except for positional-only arguments."""
        if self.omits_defaults:
            keywords = {*self.defaults} - {*self.positional[: self.positional_only]}
            bound = {n: v for n, v in bound.items() if n not in keywords or v is not self.defaults[n]}
        if not (self.positional_only or self.var_positional or self.var_keyword):
            return (), dict(bound)
        more = bound.get(self.var_positional, ())
        count = len(self.positional) if more else self.positional_only
        args = (*(bound[name] for name in self.positional[:count]), *more)
        skipped = {*self.positional[:count], self.var_positional, self.var_keyword}
        kwargs = {name: value for name, value in bound.items() if name not in skipped}
        return args, {**kwargs, **bound.get(self.var_keyword, {})}

    def changed(self, bound: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return bound arguments with some of them replaced, each checked, to run a job again.

        Args:
            bound: from `bind`; {} to only check the changes.
            changes: by name. `"model.lr"` replaces one field of a structure; it remains a separate item of the result
                if `bound` has no `model`.

        Raises:
            InvalidParams: a change is rejected, or its name is unknown.
        """
        out, structs = dict(bound), set[str]()
        for name, value in changes.items():
            spec, (first, dot, rest) = self.spec_for(name), name.partition(".")
            if spec is None:
                out[self.var_keyword] = {**out.get(self.var_keyword, {}), name: value}
            elif dot and first in out:
                out[first] = with_part(plain(out[first]), rest, plain(check(spec, value)))
                structs.add(first)
            else:
                out[name] = check(spec, value)
        # A structure is checked with all its changes: its fields may depend on each other.
        return out | {name: check(self._specs[name], out[name]) for name in structs}

    def spec_for(self, name: str) -> ParamSpec | None:
        """Return the spec of a parameter, or ("model.lr") of a field of a structure; None for one of `**kwargs`.

        Raises:
            InvalidParams: there is no such parameter or field.
        """
        first, *path = name.split(".")
        spec = self._specs.get(name) or self._specs.get(first)
        if spec is None and not self.var_keyword:
            self._refuse_name(name)
        if spec is None or spec.name == name:
            return spec
        return functools.reduce(field_of, path, spec)

    @functools.cached_property
    def _specs(self) -> dict[str, ParamSpec]:
        return {spec.name: spec for spec in self.params}

    def _refuse_missing(self, first: str, given: Collection[str], function: str) -> None:
        if not function:
            raise InvalidParams(f"missing argument {first!r}", first)
        missing = [s.name for s in self.params if s.required and s.name not in given and s.name not in self.defaults]
        *others, last = missing
        names = f"s {', '.join(others)} and {last}" if others else f" {last}"
        known = ", ".join(self._specs)
        raise InvalidParams(f"{_called(function)}misses the argument{names}; its parameters are: {known}", first)

    def _refuse_name(self, name: str, options: Collection[str] = ()) -> None:
        if name in self._specs:
            raise InvalidParams(f"argument {name!r} can only be given by position", name)
        close, names = close_names(name, self._specs), ", ".join(self._specs) or "none"
        hint = f"; for resources write task.options({written})" if (written := as_resources(name)) else ""
        hint = f"; it is an option: write .options({name}=...).submit(...)" if name in options else hint
        raise InvalidParams(f"unexpected argument {name!r}{close}; the parameters are: {names}{hint}", name)


def _called(function: str) -> str:
    """Return the beginning of a message: the name of a function as a call, or "" without one."""
    return f"{function}() " if function.isidentifier() else f"{function} "


#: Accepts anything: for builtins without a signature.
OPEN = Signature((), var_positional="args", var_keyword="kwargs")


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature of any callable or `Task` class; `OPEN` if it has none.

    Raises:
        InvalidParams: an invalid annotation (a `Range` on a type that it cannot bound).
    """
    if is_task_class(function):
        return signature_of_class(function)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return OPEN
    inner = called(function)
    hints = hints_of(inspect.getattr_static(inner, "__init__") if isinstance(inner, type) else inner)
    params: list[ParamSpec] = []
    defaults: dict[str, Any] = {}
    names: dict[Any, list[str]] = {}
    for parameter in parameters:
        name = parameter.name
        names.setdefault(parameter.kind, []).append(name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        spec = spec_of(name, hints.get(name, Any if parameter.annotation is parameter.empty else parameter.annotation))
        if parameter.default is not parameter.empty:
            spec = with_default(spec, parameter.default)
            defaults[name] = parameter.default
        params.append(spec)
    of = inspect.Parameter
    only, more, keyword = (names.get(kind, []) for kind in (of.POSITIONAL_ONLY, of.VAR_POSITIONAL, of.VAR_KEYWORD))
    positional = (*only, *names.get(of.POSITIONAL_OR_KEYWORD, ()))
    positional_only = len(only)
    if inspect.isfunction(function) and hasattr(function, "__wrapped__"):
        kinds = {each.kind for each in inspect.signature(function, follow_wrapped=False).parameters.values()}
        if of.VAR_POSITIONAL in kinds and of.VAR_KEYWORD not in kinds:
            positional_only = len(positional)  # a decorator's `def inner(*args)`
    stars = "".join(more), "".join(keyword)
    is_python = inspect.isfunction(function) or inspect.ismethod(function)
    is_python = is_python or isinstance(function, (type, functools.partial))
    is_native = not (is_python or inspect.isfunction(inspect.getattr_static(type(function), "__call__", None)))
    is_declared = "__signature__" in getattr(function, "__dict__", {})
    omits_defaults = is_native or is_declared
    return Signature(tuple(params), positional, positional_only, *stars, defaults, omits_defaults=omits_defaults)


def called(function: Any) -> Any:
    """Return what a call runs: the function of a partial, `run` of a `Task` class, `__call__` of an instance."""
    while isinstance(function, functools.partial):
        function = function.func
    if is_task_class(function):
        return function.run
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004  # to look at, not to ask


# -- Task classes ----------------------------------------------------------------------------------------------------

#: Name of a class of param (or of a base) to its hint; the first match in the MRO wins.
_HINTS: Mapping[str, Any] = {
    "Integer": int,
    "Number": float,
    "Boolean": bool,
    "ListSelector": list,
    "Selector": Literal,
    "Path": Path,
    "CalendarDate": date,
    "Date": datetime,
    "String": str,
    "DataFrame": "DataFrame",
    "Dict": dict,
    "CalendarDateRange": date,
    "DateRange": datetime,
    "NumericTuple": float,
    "Tuple": Any,
    "List": list,
}


def is_task_class(found: object) -> bool:
    """True for subclasses of `jobkit.Task`."""
    return isinstance(found, type) and getattr(found, "__jobkit_task_class__", False) is True


def run_class(cls: type, *args: Any, **kwargs: Any) -> Any:
    """Create an instance with these parameters and call its `run`; returns a coroutine if `run` is async.

    Its declared `state` comes from the newest checkpoint, if there is one.
    """
    made = cls(*args, **kwargs)
    if cls.__jobkit_state__:  # type: ignore[attr-defined]  # of a task class
        kept: Mapping[str, Any] = public("resume")({})
        made.param.update({name: kept[name] for name in cls.__jobkit_state__ if name in kept})  # type: ignore[attr-defined]
    return made.run()


def signature_of_class(cls: Any) -> Signature:
    """Return the signature of a `Task` class: its parameters by name, in the order of definition.

    Private (`_x`) and read-only parameters and `name` are left out. Defaults that are not plain remain in the class,
    which copies them for each instance.
    """
    specs, defaults = [], {}
    for name, parameter in cls.param.objects("existing").items():
        if name == "name" or name.startswith("_") or parameter.readonly:
            continue
        specs.append(_spec_of_parameter(name, parameter))
        default = parameter.default
        if isinstance(default, (bool, int, float, str, date, datetime, Enum)):
            defaults[name] = default
    defined = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))  # base classes first
    order = {name: index for index, name in enumerate(defined)}
    specs.sort(key=lambda spec: order.get(spec.name, 0))
    return Signature(tuple(specs), defaults=defaults)


def _spec_of_parameter(name: str, parameter: Any) -> ParamSpec:
    hint = next((_HINTS[base.__name__] for base in type(parameter).__mro__ if base.__name__ in _HINTS), Any)
    low, high = getattr(parameter, "bounds", None) or (None, None)
    if hasattr(parameter, "length"):  # a Tuple: the hint is of its items
        spec = replace(
            spec_of(name, GenericAlias(tuple, (hint,) * parameter.length)), min=parameter.length, max=parameter.length
        )
    elif hint is Literal:
        names = getattr(parameter, "names", None) or {}
        is_open = parameter.check_on_set is False
        spec = spec_of(name, Any) if is_open else choice_of(name, list(names.values() or parameter.objects), names)
    elif hint is list:
        objects, item = getattr(parameter, "objects", None), getattr(parameter, "item_type", None)
        spec = replace(
            spec_of(name, GenericAlias(list, (item,)) if isinstance(item, type) else list), min=low or None, max=high
        )
        spec = replace(spec, item=choice_of("item", list(objects))) if objects else spec
    elif is_struct(of := getattr(parameter, "class_", None)) and getattr(parameter, "is_instance", True):
        spec = spec_of(name, of)
    else:
        spec = spec_of(name, hint)
        if hint in (int, float):
            low, high = _bounds(parameter, spec.kind)
            spec = replace(spec, min=low, max=high)
    label = parameter.label if getattr(parameter, "_label", None) else ""
    help_text = " ".join((parameter.doc or "").split())
    nullable = spec.nullable or bool(parameter.allow_None)
    return with_default(
        replace(spec, nullable=nullable, label=label, help=help_text, is_secret=is_secret_kind(name, spec.kind)),
        parameter.default,
    )


def _bounds(parameter: Any, kind: str) -> tuple[float | None, float | None]:
    """Return inclusive bounds: an exclusive bound becomes the next number inside it."""
    low, high = parameter.bounds or (None, None)
    low_in, high_in = parameter.inclusive_bounds
    if low is not None and not low_in:
        low = math.floor(low) + 1 if kind == "int" else math.nextafter(low, math.inf)
    if high is not None and not high_in:
        high = math.ceil(high) - 1 if kind == "int" else math.nextafter(high, -math.inf)
    return low, high


# -- names ----------------------------------------------------------------------------------------------------


#: What people write for resources, and the names of these.
_RESOURCES = {
    **dict.fromkeys(("gpu", "gpus", "num_gpus", "gpus_per_task", "gpus_per_node"), "gpu"),
    **dict.fromkeys(("cpu", "cpus", "num_cpus", "cpus_per_task", "cores"), "cpu"),
}


def as_resources(name: str, amount: object = 1) -> str:
    """Return `resources={"gpu": 1}` for `gpu=1`; "" for other names."""
    is_amount = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    return f'resources={{"{_RESOURCES[name]}": {amount if is_amount else 1}}}' if name in _RESOURCES else ""


def close_names(name: str, known: Collection[str]) -> str:
    """Return "", or " (did you mean 'a' or 'b'?)" with similar known names."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.65)
    if not close:
        folded = {each.lower(): each for each in known}
        close = [folded[name.lower()]] if name.lower() in folded else []
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
