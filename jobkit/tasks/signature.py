"""Parameters of a function or `Task` class, and binding of arguments.

A `Signature` is made once per task (evaluating hints takes a fraction of a millisecond); binding and checking take a
few microseconds, since every submit needs them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum
from typing import Any

from jobkit.model import InvalidParams
from jobkit.tasks.hints import choices_of, hints_of, is_secret_name, spec_of, with_default
from jobkit.tasks.params import check
from jobkit.tasks.specs import ParamSpec, plain, with_part
from jobkit.tasks.structs import is_struct

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Signature:
    """Parameters of a callable.

    Attributes:
        params: its parameters in order, without `*args` and `**kwargs`.
        positional: names that may be given by position.
        positional_only: number of them that must be given by position.
        var_positional, var_keyword: names of `*args` and `**kwargs`, or "".
        defaults: the Python defaults by name.
        omits_defaults: do not pass keyword arguments that equal their default: functions in C (NumPy ufuncs) may reject
            some combinations.
    """

    params: tuple[ParamSpec, ...]
    positional: tuple[str, ...] = ()
    positional_only: int = 0
    var_positional: str = ""
    var_keyword: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    omits_defaults: bool = False
    _names: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments of the call by name, checked and converted, with defaults.

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
            elif name in self._names and name not in self.positional[: self.positional_only]:
                given[name] = value
            elif self.var_keyword:
                extra[name] = value
            else:
                self._refuse_name(name)
        defaults = self.defaults
        for spec in self.params:
            name = spec.name
            if name in given:
                bound[name] = check(spec, given[name])
            elif name in defaults:
                bound[name] = defaults[name]
            elif spec.required:
                raise InvalidParams(f"missing argument {name!r}", name)
        if len(args) > len(self.positional) and not self.var_positional:
            most = len(self.positional)
            raise InvalidParams(
                f"takes at most {most} argument{'s' * (most != 1)} by position, but {len(args)} were given"
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
        specs = {spec.name: spec for spec in self.params}
        out = dict(bound)
        for name, value in changes.items():
            first, dot, rest = name.partition(".")
            if name in specs:
                out[name] = check(specs[name], value)
            elif dot and first in specs:
                changed = check(part_of(specs[first], rest), value)
                if first in out:
                    out[first] = check(specs[first], with_part(plain(out[first]), rest, plain(changed)))
                else:
                    out[name] = changed
            elif self.var_keyword:
                out[self.var_keyword] = {**out.get(self.var_keyword, {}), name: value}
            else:
                self._refuse_name(name)
        return out

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(spec.name for spec in self.params))

    def _refuse_name(self, name: str) -> None:
        if name in self._names:
            raise InvalidParams(f"argument {name!r} can only be given by position", name)
        close = close_names(name, self._names)
        names = ", ".join(spec.name for spec in self.params) or "none"
        raise InvalidParams(f"unexpected argument {name!r}{close}; the parameters are: {names}", name)


#: Accepts anything: for builtins without a signature.
OPEN = Signature((), var_positional="args", var_keyword="kwargs")


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature of any callable or `Task` class; `OPEN` if it has none.

    Raises:
        InvalidParams: an invalid annotation (a `Range` on a type that it cannot bound).
    """
    if is_task_class(function):
        return _signature_of_class(function)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return OPEN
    hints = hints_of(_hinted(function))
    params: list[ParamSpec] = []
    defaults: dict[str, Any] = {}
    positional: list[str] = []
    positional_only, var_positional, var_keyword = 0, "", ""
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            var_positional = name
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            var_keyword = name
            continue
        if parameter.kind in _POSITIONAL:
            positional.append(name)
            positional_only += parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        default = parameter.default
        spec = spec_of(name, hints[name]) if name in hints else spec_of(name, Any)
        if default is not inspect.Parameter.empty:
            spec = with_default(spec, default)
            defaults[name] = default
        params.append(spec)
    if inspect.isfunction(function) and hasattr(function, "__wrapped__"):
        kinds = {each.kind for each in inspect.signature(function, follow_wrapped=False).parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD not in kinds:
            positional_only = len(positional)  # a decorator's `def inner(*args)`
    return Signature(
        tuple(params), tuple(positional), positional_only, var_positional, var_keyword, defaults, _is_native(function)
    )


def _is_native(function: Any) -> bool:
    """Return True if a callable is written in C."""
    if inspect.isfunction(function) or inspect.ismethod(function) or isinstance(function, (type, functools.partial)):
        return False
    return not inspect.isfunction(inspect.getattr_static(type(function), "__call__", None))


def _hinted(function: Any) -> Any:
    """Return the function that has the hints of a callable: of a partial, a class or an instance."""
    if isinstance(function, functools.partial):
        return _hinted(function.func)
    if isinstance(function, type):
        return inspect.getattr_static(function, "__init__")
    return function if inspect.isroutine(function) else getattr(type(function), "__call__", function)  # noqa: B004  # to look at, not to ask


# -- Task classes ----------------------------------------------------------------------------------------------------

#: Name of a class of param (or of a base) to kind; the first match in the MRO wins.
_KINDS = {
    "Integer": "int",
    "Number": "float",
    "Boolean": "bool",
    "ListSelector": "list",
    "Selector": "choice",
    "Path": "path",
    "CalendarDate": "date",
    "Date": "datetime",
    "String": "str",
    "DataFrame": "table",
    "Dict": "dict",
    "Tuple": "list",
    "List": "list",
}


def is_task_class(found: object) -> bool:
    """True for subclasses of `jobkit.Task`."""
    return isinstance(found, type) and getattr(found, "__jobkit_task_class__", False) is True


def run_class(cls: type, *args: Any, **kwargs: Any) -> Any:
    """Create an instance with these parameters and call its `run`; returns a coroutine if `run` is async."""
    return cls(*args, **kwargs).run()


def _signature_of_class(cls: Any) -> Signature:
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
    kind = next((_KINDS[base.__name__] for base in type(parameter).__mro__ if base.__name__ in _KINDS), "any")
    spec = ParamSpec(
        name=name,
        kind=kind,
        nullable=bool(parameter.allow_None),
        label=parameter.label if getattr(parameter, "_label", None) else "",
        help=" ".join((parameter.doc or "").split()),
        is_secret=is_secret_name(name),
    )
    if kind in ("int", "float"):
        low, high = _bounds(parameter, kind)
        spec = replace(spec, min=low, max=high)
    elif kind == "list":
        spec = _list_of_parameter(spec, parameter)
    elif is_struct(struct := getattr(parameter, "class_", None)) and getattr(parameter, "is_instance", True):
        of_class = spec_of(name, struct)
        spec = replace(of_class, nullable=spec.nullable, label=spec.label, help=spec.help, is_secret=spec.is_secret)
    elif kind == "choice":
        names = getattr(parameter, "names", None) or {}
        objects = list(names.values()) if names else list(parameter.objects)
        if parameter.check_on_set is False:
            spec = replace(spec, kind="any")
        else:
            picked = [value for value in objects if value is not None]
            labels = [label for label, value in names.items() if value is not None] or None
            is_nullable = spec.nullable or len(picked) < len(objects)
            spec = replace(spec, nullable=is_nullable, choices=choices_of(picked, labels), objects=tuple(picked))
    return with_default(spec, parameter.default)


def _bounds(parameter: Any, kind: str) -> tuple[float | None, float | None]:
    """Return inclusive bounds: an exclusive bound becomes the next number inside it."""
    low, high = parameter.bounds or (None, None)
    low_in, high_in = parameter.inclusive_bounds
    if low is not None and not low_in:
        low = math.floor(low) + 1 if kind == "int" else math.nextafter(low, math.inf)
    if high is not None and not high_in:
        high = math.ceil(high) - 1 if kind == "int" else math.nextafter(high, -math.inf)
    return low, high


def _list_of_parameter(spec: ParamSpec, parameter: Any) -> ParamSpec:
    if hasattr(parameter, "length"):  # a Tuple
        item = (
            ParamSpec(name="item", kind="float")
            if any(base.__name__.startswith("Numeric") for base in type(parameter).__mro__)
            else None
        )
        return replace(spec, min=parameter.length, max=parameter.length, item=item, container=tuple)
    objects = getattr(parameter, "objects", None)
    if objects:
        objects = list(objects)
        item = ParamSpec(name="item", kind="choice", choices=choices_of(objects), objects=tuple(objects))
        return replace(spec, item=item)
    low, high = getattr(parameter, "bounds", None) or (None, None)
    kind = {int: "int", float: "float", str: "str", bool: "bool"}.get(getattr(parameter, "item_type", None) or object)
    return replace(spec, min=low or None, max=high, item=ParamSpec(name="item", kind=kind) if kind else None)


# -- names ----------------------------------------------------------------------------------------------------


def part_of(spec: ParamSpec, path: str) -> ParamSpec:
    """Return the spec of a field of a structure: `"optimizer.lr"` of `model`, under its full name.

    Raises:
        InvalidParams: there is no such field.
    """
    for name in path.split("."):
        part = next((part for part in spec.parts if part.name == name), None) if spec.kind == "struct" else None
        if part is None:
            fields = ", ".join(part.name for part in spec.parts) if spec.kind == "struct" else ""
            raise InvalidParams(
                f"{spec.name} has no field {name!r}; its fields are: {fields or 'none'}", f"{spec.name}.{name}"
            )
        spec = replace(part, name=f"{spec.name}.{name}", is_secret=part.is_secret or spec.is_secret)
    return spec


def close_names(name: str, known: Sequence[str] | frozenset[str]) -> str:
    """Return "", or " (did you mean 'a' or 'b'?)" with similar known names."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.65)
    if not close:
        folded = {each.lower(): each for each in known}
        close = [folded[name.lower()]] if name.lower() in folded else []
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
