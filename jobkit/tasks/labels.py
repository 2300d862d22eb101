"""Labels and help of parameters, from docstrings and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobkit.tasks.specs import ParamSpec


def documented(params: Sequence[ParamSpec], doc: str, labels: Mapping[str, str] | None = None) -> tuple[ParamSpec, ...]:
    """Return the parameters with labels, and with help from a docstring (Google, NumPy, reST or Epydoc style)."""
    helps: dict[str, str] = {}
    if doc:
        import docstring_parser

        try:
            parsed = docstring_parser.parse(doc)
        except docstring_parser.ParseError:
            parsed = docstring_parser.Docstring()
        for entry in parsed.params:
            for name in entry.arg_name.split(","):
                helps[name.strip().lstrip("*")] = " ".join((entry.description or "").split())
    labels = labels or {}
    return tuple(
        replace(
            spec,
            help=spec.help or helps.get(spec.name, ""),
            label=spec.label or labels.get(spec.name, "") or label_of(spec.name),
        )
        for spec in params
    )


def label_of(name: str) -> str:
    """Return a parameter's label in a form: `n_steps` becomes "n steps"."""
    return name.strip("_").replace("_", " ") or name
