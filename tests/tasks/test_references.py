"""Results of other jobs as arguments: found at any depth, removed from the payload, inserted again."""

from __future__ import annotations

from typing import Any

from jobkit.codec import Codec
from jobkit.tasks.call import Call, encode_call, read_call, read_head, with_results
from jobkit.tasks.references import Reference, ids_of, put_in, replaced, taken_out


class Job:
    def __init__(self, id: str) -> None:
        self.id = id


def reference_of(value: Any) -> Reference | None:
    return Reference([value.id]) if isinstance(value, Job) else None


def test_references_are_found_in_lists_tuples_and_dicts_and_nothing_else_is_touched() -> None:
    a, b = Job("a"), Job("b")
    numbers = [1, 2, 3]
    value = [[a, numbers, (b, 1)], {"x": {"y": [a]}, 3: "text"}]

    changed = replaced(value, reference_of)

    assert ids_of(changed) == ("a", "b")
    assert changed[0][1] is numbers
    assert isinstance(changed[0][2], tuple)
    assert replaced(numbers, reference_of) is numbers


def test_references_are_replaced_by_results_at_the_same_places() -> None:
    args = [1, [Reference(["a"]), 2], (Reference(["a", "b"], True),)]
    kwargs = {"k": {7: Reference(["b"]), "z": 1}}

    plain_args, plain_kwargs, needs = taken_out(args, kwargs)
    whole = put_in(plain_args, plain_kwargs, needs, lambda ids, is_many: list(ids) if is_many else ids[0].upper())

    assert (plain_args, plain_kwargs) == ([1, [None, 2], (None,)], {"k": {7: None, "z": 1}})
    assert whole == ([1, ["A", 2], (["a", "b"],)], {"k": {7: "B", "z": 1}})


def test_a_call_with_references_stays_plain_data() -> None:
    codec = Codec()  # no key: a pickle would be refused

    body = encode_call(codec, Call(None, [Reference(["a"])], {"n": 1}), ref="m:f", has_references=True)
    head = read_head(with_results(body, {"a": (b"m", b"\x05")}))

    assert head.needs == (([0, 0], ["a"], False),)
    assert head.given == {"a": (b"m", b"\x05")}
    call = read_call(head, allow_pickle=True)
    assert isinstance(call.args[0], Reference)
    assert call.kwargs == {"n": 1}
