"""`TaskInfo`: a task's definition for processes without its code: dashboard, command line, HTTP, other clients.

Workers publish it as sealed JSON. Forms, argument checks and submits by name use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import RAW, Codec, Subject
from jobkit.model import InvalidParams, JobSpec, SignatureError
from jobkit.tasks.call import CallHead
from jobkit.tasks.options import JobOptions, effective_options, read_options, write_options
from jobkit.tasks.params import parse_text
from jobkit.tasks.signature import Signature
from jobkit.tasks.specs import KINDS, ParamSpec
from jobkit.tasks.values import plain, shown_and_abridged


class TaskInfo(msgspec.Struct, frozen=True, dict=True):
    """Definition of a task, sufficient to display it and to submit it by name.

    Attributes:
        name, title, doc: as defined by the author; `title` is never empty.
        params: its parameters with labels and help.
        takes_extra: accepts further keyword arguments (`**kwargs`).
        isolation: "process", "thread" or "async".
        options: options set by the author.
        ref: `"module:qualname"`, or "" if only the defining process can submit it.
        source_dir: directory to import the module from, on the publishing machine; "" if it is installed.
    """

    name: str
    title: str = ""
    doc: str = ""
    params: tuple[ParamSpec, ...] = ()
    takes_extra: bool = False
    isolation: str = "process"
    options: JobOptions = JobOptions()
    ref: str = ""
    source_dir: str = ""

    @cached_property
    def signature(self) -> Signature:
        """Its parameters, by name only."""
        return Signature(self.params, var_keyword="kwargs" if self.takes_extra else "")

    def is_run_by(self, spec: JobSpec, head: CallHead) -> bool:
        """Return True if a job of its name with this call runs this task, not other code of its name.

        A function that travels with its call has no reference; then its arguments must have the same names.
        """
        if head.is_named or head.ref or self.ref:
            return head.is_named or head.ref == self.ref
        return self.takes_extra or spec.params.keys() == {each.name for each in self.params}

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return keyword arguments for the task from the values of a form or JSON request; the task applies defaults.

        Raises:
            InvalidParams: a value is missing, unknown or not allowed; see `params.check`.
        """
        return self.signature.call_args(self.signature.bind((), values))[1]

    def parse(self, pairs: Iterable[str]) -> dict[str, Any]:
        """Return checked keyword arguments from a command line's `["n=5", "model.lr=0.1"]`.

        Omitted fields of a structure keep the parameter's default.

        Raises:
            InvalidParams: a pair without "=", a duplicate name, or a value that `check` rejects.
        """
        given = self._read(pairs)
        partial = {name.partition(".")[0] for name in given if "." in name}
        defaults = {spec.name: spec.default or {} for spec in self.params if spec.name in partial}
        return self.check(self._changed(defaults, given))

    def changes(self, values: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
        """Return checked values for some arguments, as plain data, to run a job again with them.

        Args:
            values: by name (`"model.lr"` for one field of a structure), or a command line's `["n=5"]`.

        Raises:
            InvalidParams: `values` is empty, or one is unknown or not allowed.
        """
        given = values if isinstance(values, Mapping) else self._read(values)
        if not given:
            raise InvalidParams("there is nothing to change: give at least one argument, like n=5")
        return plain_arguments(self._changed({}, given), self.params)

    def _changed(self, values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        return self.signature.call_args(self.signature.changed(values, changes))[1]

    def _read(self, pairs: Iterable[str]) -> dict[str, Any]:
        """Return the values in `["n=5", "model.lr=0.1"]`, by name."""
        values: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals or not name:
                raise InvalidParams(f"arguments are written name=value, not {pair!r}")
            if name in values:
                raise InvalidParams(f"argument {name!r} is given twice", name)
            values[name] = self._value_of(name, text)
        return values

    def read_texts(self, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Return the values in the texts of a web page's form, by name; paths of tables are refused."""
        return {name: self._value_of(name, text, opens_files=False) for name, text in texts}

    def _value_of(self, name: str, text: str, *, opens_files: bool = True) -> Any:
        spec = self.signature.spec_for(name) or ParamSpec(name=name, kind="any")
        return parse_text(spec, text, opens_files=opens_files)

    def effective(self, over: JobOptions | None = None) -> JobOptions:
        """Return the options of a submission; see `TaskDef.effective`."""
        return effective_options(self.name, self.options, over, self.isolation, is_async=self.isolation == "async")

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of its arguments."""
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(self.params, self.takes_extra)}
        return {**schema, "title": self.title, **({"description": self.doc} if self.doc else {})}

    def to_json(self) -> dict[str, Any]:
        """Return the definition as it is stored and served."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "options"}
        return {**fields, "params": [spec.to_json() for spec in self.params], **write_options(self.options)}

    @classmethod
    def from_sealed(cls, name: str, sealed: bytes, codec: Codec) -> TaskInfo:
        """Return the task that a worker has published under this name.

        Raises:
            SignatureError: the definition was not sealed for this name with one of our keys, or cannot be read. Such a
                task must not be submitted: its definition determines which function a job runs.
        """
        try:
            _, body = codec.verify(sealed, _definition_of(name))
        except SignatureError:
            if codec.has_key:
                what = "does not carry a valid signature"
                hint = "start its worker with the same JOBKIT_SECRET as this process"
            else:
                what = "is signed"
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
        """Return the task that `to_json` describes; unknown fields are ignored."""
        found = msgspec.convert(data, cls)
        return replace(found, title=found.title or found.name, options=read_options(data))


def sealed_definition(definition: Mapping[str, Any], codec: Codec) -> bytes:
    """Return a task's definition (`TaskInfo.to_json`), sealed for its name, for publishing."""
    return codec.seal(RAW, msgspec.json.encode(definition), _definition_of(definition["name"]))


def _definition_of(name: str) -> Subject:
    return Subject("definition", "", name)


def plain_arguments(values: Mapping[str, Any], specs: Iterable[ParamSpec] = ()) -> dict[str, Any]:
    """Return arguments as JSON if `bind` can restore them from it (dates, paths, structures), else unchanged.

    So a job that is submitted by name needs no pickle, unless it has a table.

    Args:
        specs: of the parameters. Without one, or with one of kind "any", a structure could not be restored.
    """
    typed = {spec.name for spec in specs if spec.kind != "any"}
    out = {}
    for name, value in values.items():
        try:
            out[name] = plain(value, typed=name.partition(".")[0] in typed)
        except ValueError:
            out[name] = value
    return out


def _object(specs: Sequence[ParamSpec], allow_extra: bool) -> dict[str, Any]:
    """Return the JSON Schema of an object with these fields."""
    return {
        "type": "object",
        "properties": {spec.name: _property(spec) for spec in specs},
        "required": [spec.name for spec in specs if spec.required],
        "additionalProperties": allow_extra,
    }


def _property(spec: ParamSpec) -> dict[str, Any]:
    kind = KINDS[spec.kind]
    schema: dict[str, Any] = dict(kind.schema)
    if spec.kind == "choice":
        schema["enum"] = [choice.value for choice in spec.choices]
    schema |= {name: bound for name, bound in zip(kind.bounds, (spec.min, spec.max), strict=False) if bound is not None}
    if spec.kind == "struct" and spec.parts:
        schema |= _object(spec.parts, False)
    elif spec.kind == "union":
        schema["anyOf"] = [_property(part) for part in spec.parts]
    elif spec.kind == "list" and spec.parts:
        schema["prefixItems"] = [_property(part) for part in spec.parts]
    elif spec.item is not None:
        schema["items" if spec.kind == "list" else "additionalProperties"] = _property(spec.item)
    if spec.nullable and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if spec.label:
        schema["title"] = spec.label
    if spec.help:
        schema["description"] = spec.help
    if spec.has_default and not spec.default_text and not spec.is_secret:
        schema["default"] = spec.default
    if spec.is_secret:
        schema["writeOnly"] = True
    return schema


#: By task: the default of each of its parameters.
Defaults = Mapping[str, Mapping[str, Any]]


def defaults_of(infos: Mapping[str, TaskInfo]) -> dict[str, dict[str, Any]]:
    """Return the defaults of each task's parameters in display form: rows leave out arguments that equal them."""
    return {
        name: shown_and_abridged({s.name: s.default_text or s.default for s in info.params if s.has_default})[0]
        for name, info in infos.items()
    }
