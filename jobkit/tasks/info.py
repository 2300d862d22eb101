"""`TaskInfo`: a task as others see it, who do not import its code: dashboard, command line, HTTP, other clients.

Workers publish it as JSON, sealed; from it forms are made, arguments checked and jobs submitted by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from jobkit.codec import RAW, Codec, Subject
from jobkit.model import InvalidParams, SignatureError
from jobkit.tasks.options import SubmitOptions, TaskOptions, effective_options, read_options, write_options
from jobkit.tasks.params import parse_text
from jobkit.tasks.signature import Signature, part_of
from jobkit.tasks.specs import ParamSpec, json_schema, plain, with_part


@dataclass(frozen=True)
class TaskInfo:
    """All that is needed to show a task and to submit it by name.

    Attributes:
        name, title, doc: as the author wrote them; `title` is never empty.
        params: its parameters with labels and help.
        takes_extra: it takes further arguments by name (`**kwargs`).
        isolation: "process", "thread" or "async".
        options: what its author set.
        ref: `"module:qualname"`, or "" where only the process that defined it can submit it.
        source_dir: directory to import the module from, on the machine that published it; "" where it is installed.
    """

    name: str
    title: str = ""
    doc: str = ""
    params: tuple[ParamSpec, ...] = ()
    takes_extra: bool = False
    isolation: str = "process"
    options: TaskOptions = field(default_factory=TaskOptions)
    ref: str = ""
    source_dir: str = ""

    @cached_property
    def signature(self) -> Signature:
        """Its parameters, by name only."""
        return Signature(self.params, var_keyword="kwargs" if self.takes_extra else "")

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the task from the values of a form or a JSON request; defaults are left to the task.

        Raises:
            InvalidParams: a value is missing, unknown or not allowed; see `params.check`.
        """
        return self.signature.call_args(self.signature.bind((), values))[1]

    def parse(self, pairs: Iterable[str]) -> dict[str, Any]:
        """Checked keyword arguments from a command line's `["n=5", "model.lr=0.1"]`.

        Fields of a structure that are not given keep the parameter's default.

        Raises:
            InvalidParams: a pair without "=", a name given twice, and everything that `check` refuses.
        """
        values: dict[str, Any] = {}
        defaults = {spec.name: spec.default for spec in self.params}
        for name, value in self._read(pairs).items():
            first, dot, rest = name.partition(".")
            if dot and first in defaults:
                values[first] = with_part(values.get(first, defaults[first]), rest, plain(value))
            else:
                values[name] = value
        return self.check(values)

    def changes(self, values: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
        """Checked values for some of its arguments, as plain data, whatever the others are: to run a job again with.

        Args:
            values: by name (`"model.lr"` for one field of a structure), or a command line's `["n=5"]`.

        Raises:
            InvalidParams: there is none, one is unknown or not allowed.
        """
        given = values if isinstance(values, Mapping) else self._read(values)
        if not given:
            raise InvalidParams("there is nothing to change: give at least one argument, like n=5")
        bound = self.signature.changed({}, given)
        return plain_arguments({**bound, **bound.pop("kwargs", {})} if self.takes_extra else bound, self.params)

    def _read(self, pairs: Iterable[str]) -> dict[str, Any]:
        """The values in `["n=5", "model.lr=0.1"]`, by name."""
        specs = {spec.name: spec for spec in self.params}
        values: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals or not name:
                raise InvalidParams(f"arguments are written name=value, not {pair!r}")
            if name in values:
                raise InvalidParams(f"argument {name!r} is given twice", name)
            spec = specs.get(name)
            first, dot, rest = name.partition(".")
            if spec is None and dot and first in specs:
                spec = part_of(specs[first], rest)
            if spec is None and not self.takes_extra:
                self.signature.changed({}, {name: text})  # refuses it, with the close names
            values[name] = parse_text(spec or ParamSpec(name=name), text)
        return values

    def effective(self, over: SubmitOptions | None = None) -> SubmitOptions:
        """The options of a submission; see `TaskDef.effective`."""
        return effective_options(self.name, self.options, over, self.isolation, is_async=self.isolation == "async")

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of its arguments."""
        schema = json_schema(self.params, allow_extra=self.takes_extra)
        return {**schema, "title": self.title, **({"description": self.doc} if self.doc else {})}

    def to_json(self) -> dict[str, Any]:
        """The definition that is stored and served."""
        return {
            "name": self.name,
            "title": self.title,
            "doc": self.doc,
            "params": [spec.to_json() for spec in self.params],
            "takes_extra": self.takes_extra,
            **write_options(self.options),
            "isolation": self.isolation,
            "ref": self.ref,
            "source_dir": self.source_dir,
        }

    @classmethod
    def from_sealed(cls, name: str, sealed: bytes, codec: Codec) -> TaskInfo:
        """The task of this name as a worker has published it.

        Raises:
            SignatureError: the definition was not sealed for this name by a key that we hold, or cannot be read. Such a
                task must not be submitted: its definition says which function a job runs.
        """
        try:
            _, body = codec.verify(sealed, _definition_of(name))
        except SignatureError:
            if codec.has_key:
                what = "does not carry a valid signature"
                hint = "start its worker with the same JOBKIT_SECRET, and the same version of jobkit, as this process"
            else:
                what = "is signed, or of an older jobkit"
                hint = "set JOBKIT_SECRET to the same text as its worker"
            raise SignatureError(f"task {name!r} cannot be used here: its definition in Redis {what}; {hint}") from None
        try:
            found = cls.from_definition(msgspec.json.decode(body))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError) as error:
            found, why = cls(""), f"{type(error).__name__}: {error}"
        else:
            why = f"it is the definition of {found.name!r}"
        if found.name != name:
            raise SignatureError(f"task {name!r} cannot be used here: its definition in Redis cannot be read ({why})")
        return found

    @classmethod
    def from_definition(cls, data: Mapping[str, Any]) -> TaskInfo:
        """The task that `TaskDef.definition()` describes; fields of a newer version are ignored."""
        return cls(
            name=data["name"],
            title=data.get("title") or data["name"],
            doc=data.get("doc", ""),
            params=tuple(ParamSpec.from_json(each) for each in data.get("params", ())),
            takes_extra=data.get("takes_extra", False),
            isolation=data.get("isolation", "process"),
            options=read_options(data),
            ref=data.get("ref", ""),
            source_dir=data.get("source_dir", ""),
        )


def sealed_definition(definition: Mapping[str, Any], codec: Codec) -> bytes:
    """What a worker publishes of a task: its whole definition (`TaskInfo.to_json`), sealed for its name."""
    return codec.seal(RAW, msgspec.json.encode(definition), _definition_of(definition["name"]))


def _definition_of(name: str) -> Subject:
    return Subject("definition", "", name)


def plain_arguments(values: Mapping[str, Any], specs: Iterable[ParamSpec] = ()) -> dict[str, Any]:
    """Checked arguments as JSON where that says the same (dates, paths, structures), else as they are.

    So a job submitted by name needs no pickle, unless it carries a table; the child's `bind` turns them back.

    Args:
        specs: of the parameters. Without one, or with one that accepts anything, no type would turn a structure back.
    """
    typed = {spec.name for spec in specs if spec.kind != "any"}
    out = {}
    for name, value in values.items():
        try:
            out[name] = plain(value, typed=name.partition(".")[0] in typed)
        except ValueError:
            out[name] = value
    return out
