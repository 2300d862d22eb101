"""Questions of a job to people: the form for the answer, made from what the job expects, and the check of an answer.

`form_of` runs in the job. A `Question` travels as JSON: page, command line and HTTP show it and check answers with it,
as they do with the parameters of a task, without the job's code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from jobkit.model import InvalidParams
from jobkit.model.format import params_brief, value_brief
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.masking import MASK
from jobkit.tasks.params import check
from jobkit.tasks.signature import Signature, signature_of, signature_of_class
from jobkit.tasks.specs import ParamSpec, choice_of, documented, spec_of
from jobkit.tasks.values import is_struct, short_repr, shown_and_abridged, struct_of, why_refused

#: Name of the only parameter of a question for one value.
ONE = "answer"

#: Characters of a text, and of a key.
TEXT_CHARS, KEY_CHARS = 4_000, 100

#: Bytes of a whole question as JSON, with what it shows; and of an answer.
QUESTION_BYTES, ANSWER_BYTES = 2_000_000, 100_000

#: Characters of a text, and of an answer, in the history of a job.
BRIEF_CHARS = 200


class Question(msgspec.Struct, frozen=True, dict=True):
    """A question, sufficient to display it and to check its answer.

    Attributes:
        text: what is asked.
        params: the fields of the answer; for one value a single one named `ONE`.
        is_one: the answer is one value, not values by name.
        shown: preview of what the job shows with it (see `jobkit.run.inside.shown_values`), or {}.
        problem: why the job refused the answer before this one, or "".
    """

    text: str
    params: tuple[ParamSpec, ...]
    is_one: bool = False
    shown: Mapping[str, Any] = {}
    problem: str = ""

    @cached_property
    def info(self) -> TaskInfo:
        """Its fields as those of a task: what forms and the command line take."""
        return TaskInfo("question", self.text, params=self.params)

    def check(self, answer: Any) -> dict[str, Any]:
        """Return an answer as JSON by name, checked. Defaults are left to the job.

        Raises:
            InvalidParams: a value is missing, unknown or not allowed; names it.
        """
        if not self.is_one and not isinstance(answer, Mapping):
            names = ", ".join(spec.name for spec in self.params)
            raise InvalidParams(f"the answer must be values by name ({names}), not {short_repr(answer)}", ONE)
        values = plain_arguments(self.info.check({ONE: answer} if self.is_one else answer), self.params)
        try:
            size = len(msgspec.json.encode(values))
        except TypeError:
            raise InvalidParams("the answer has a value that JSON has no form for", ONE) from None
        if size > ANSWER_BYTES:
            raise InvalidParams(f"the answer takes {size:,} bytes; at most {ANSWER_BYTES:,} are allowed", ONE)
        return values

    def parse(self, words: Iterable[str]) -> Any:
        """Return the answer in the words of a command line: `noise=3 keep=true`, or one value."""
        words = list(words)
        if not self.is_one:
            return self.info.parse(words)
        pairs = words if words and words[0].startswith(f"{ONE}=") else [f"{ONE}={' '.join(words)}"]
        return self.info.parse(pairs)[ONE]

    def brief(self, values: Mapping[str, Any]) -> str:
        """Return a checked answer on one line for the history, without secrets."""
        secret = {spec.name for spec in self.params if spec.is_secret}
        shown, _ = shown_and_abridged({name: MASK if name in secret else value for name, value in values.items()})
        return value_brief(shown[ONE], BRIEF_CHARS) if self.is_one else params_brief(shown, limit=BRIEF_CHARS)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI and HTTP."""
        schema = self.info.json_schema()
        if self.is_one:
            schema = {"$schema": schema["$schema"], **schema["properties"][ONE]}
        params = [spec.to_json() for spec in self.params]
        return {"text": self.text, "params": params, "is_one": self.is_one, "problem": self.problem, "schema": schema}


class Form(NamedTuple):
    """The answer that a job expects: the fields for people, and the value for the job, made from checked values."""

    params: tuple[ParamSpec, ...]
    is_one: bool
    make: Callable[[Mapping[str, Any]], Any]


def form_of(wanted: Any) -> Form:
    """Return the form for an answer.

    Args:
        wanted: a class of param, a dataclass, pydantic model, TypedDict or the like (the answer is an instance); a type
            (`bool`, `str`, `Literal[...]`, an Enum, `Annotated[int, Range(0, 9)]`, `list[str]`, ...); choices as a
            list, or as a dict of label to value; a function or `inspect.Signature` (the answer is a dict of arguments).

    Raises:
        InvalidParams: there is no form for it.
    """
    if isinstance(wanted, type) and hasattr(wanted, "param") and hasattr(wanted.param, "objects"):
        signature = signature_of_class(wanted)
        params = documented(signature.params, inspect.cleandoc(wanted.__doc__ or ""))
        form = Form(params, False, lambda values: wanted(**_bound(signature, values)))
    elif is_struct(wanted):
        params = spec_of(ONE, wanted).parts
        form = Form(params, False, lambda values: struct_of(wanted, _bound(Signature(params), values)))
    elif isinstance(wanted, inspect.Signature) or inspect.isroutine(wanted):
        signature = signature_of(_shaped(wanted) if isinstance(wanted, inspect.Signature) else wanted)
        params = documented(signature.params, inspect.getdoc(wanted) or "" if callable(wanted) else "")
        form = Form(params, False, lambda values: _bound(signature, values))
    else:
        if isinstance(wanted, Collection) and not isinstance(wanted, (str, bytes, type)):
            choices = list(wanted.values()) if isinstance(wanted, Mapping) else list(wanted)
            spec = choice_of(ONE, choices, map(str, wanted) if isinstance(wanted, Mapping) else ())
        else:
            spec = spec_of(ONE, wanted)
        form = Form(documented([spec], ""), True, lambda values: check(spec, values.get(ONE)))
        if spec.kind == "any" or (spec.kind == "choice" and not spec.choices):
            raise InvalidParams(
                "the first argument of ask says what the answer is: a type like bool, a list of choices, a dataclass "
                f"or a class of param, not {short_repr(wanted)}",
                "params",
            )
    if not form.params:
        raise InvalidParams(f"{short_repr(wanted)} has no fields to ask for", "params")
    for spec in form.params:
        if _has_table(spec):
            raise InvalidParams(f"{spec.name}: a question cannot ask for a table", spec.name)
    return form


def made(form: Form, values: Mapping[str, Any]) -> Any:
    """Return the value of an answer for the job.

    Raises:
        InvalidParams: the job's own class refuses it.
    """
    try:
        return form.make(values)
    except InvalidParams:
        raise
    except Exception as error:  # the constructor is user code
        path, why = why_refused(error)
        raise InvalidParams(f"{path or 'the answer'} was refused: {why[:300]}", path) from None


def _bound(signature: Signature, values: Mapping[str, Any]) -> dict[str, Any]:
    bound = signature.bind((), values)
    bound.pop(signature.var_positional, None)
    bound.pop(signature.var_keyword, None)
    return bound


def _shaped(signature: inspect.Signature) -> Callable[..., Any]:
    def shaped(*args: Any, **kwargs: Any) -> None: ...

    shaped.__signature__ = signature  # type: ignore[attr-defined]
    shaped.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    return shaped


def _has_table(spec: ParamSpec) -> bool:
    return spec.kind == "table" or any(map(_has_table, (*spec.parts, *([spec.item] if spec.item else []))))
