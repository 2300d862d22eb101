"""Signature and execution of a `Task` class, from its `param` parameters. The class itself is in `decorator`."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, datetime
from enum import Enum
from typing import Any

from jobkit.tasks import structs
from jobkit.tasks.hints import choices_of, is_secret_name, spec_of, with_default
from jobkit.tasks.signature import Signature
from jobkit.tasks.specs import ParamSpec

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


def signature_of_class(cls: Any) -> Signature:
    """Return the signature of a `Task` class: its parameters by name, in the order of definition.

    Private (`_x`) and read-only parameters and `name` are left out. Defaults that are not plain remain in the class,
    which copies them for each instance.
    """
    specs, defaults = [], {}
    parameters = [(name, parameter) for name, parameter in cls.param.objects("existing").items()]
    for name, parameter in parameters:
        if name == "name" or name.startswith("_") or parameter.readonly:
            continue
        specs.append(_spec(name, parameter))
        default = parameter.default
        if isinstance(default, (bool, int, float, str, date, datetime, Enum)):
            defaults[name] = default
    order = {name: index for index, base in enumerate(_definitions(cls)) for name in [base]}
    specs.sort(key=lambda spec: order.get(spec.name, 0))
    return Signature(tuple(specs), defaults=defaults)


def _definitions(cls: type) -> list[str]:
    """Return attribute names in the order of definition, base classes first."""
    return list(dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)))


def _spec(name: str, parameter: Any) -> ParamSpec:
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
        spec = _list(spec, parameter)
    elif structs.is_struct(struct := getattr(parameter, "class_", None)) and getattr(parameter, "is_instance", True):
        of_class = spec_of(name, struct)
        spec = replace(of_class, nullable=spec.nullable, label=spec.label, help=spec.help, is_secret=spec.is_secret)
    elif kind == "choice":
        names = getattr(parameter, "names", None)
        objects = list(names.values()) if names else list(parameter.objects)
        if parameter.check_on_set is False:
            spec = replace(spec, kind="any")
        else:
            labels = list(names) if names else None
            picked = [value for value in objects if value is not None]
            if len(picked) < len(objects):
                spec = replace(spec, nullable=True)
                labels = (
                    [label for label, value in zip(labels, objects, strict=True) if value is not None]
                    if labels
                    else None
                )
            spec = replace(spec, choices=choices_of(picked, labels), objects=tuple(picked))
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


def _list(spec: ParamSpec, parameter: Any) -> ParamSpec:
    if hasattr(parameter, "length"):  # a Tuple
        item = ParamSpec(name="item", kind="float") if "Numeric" in _names(parameter) else None
        return replace(spec, min=parameter.length, max=parameter.length, item=item, container=tuple)
    objects = getattr(parameter, "objects", None)
    if objects:
        objects = list(objects)
        item = ParamSpec(name="item", kind="choice", choices=choices_of(objects), objects=tuple(objects))
        return replace(spec, item=item)
    low, high = getattr(parameter, "bounds", None) or (None, None)
    kind = {int: "int", float: "float", str: "str", bool: "bool"}.get(getattr(parameter, "item_type", None) or object)
    return replace(spec, min=low or None, max=high, item=ParamSpec(name="item", kind=kind) if kind else None)


def _names(parameter: Any) -> str:
    return " ".join(base.__name__ for base in type(parameter).__mro__)
