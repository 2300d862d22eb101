"""The codec: values survive a round trip; payloads that were not sealed for exactly this subject are refused."""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.codec import CLOUDPICKLE, MSGPACK, PICKLE, Codec, Subject, decode, is_plain, pickled
from jobkit.model import InvalidParams, SignatureError

SUBJECT = Subject("args", "job1", "simulate")
CODEC = Codec([b"secret"])
UNSIGNED = Codec()


@dataclass
class Point:
    x: int


class Level(IntEnum):
    HIGH = 1


class Text(str):
    __slots__ = ()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
strange = st.one_of(
    st.integers(min_value=2**64),
    st.integers(max_value=-(2**63) - 1),
    st.tuples(st.integers()),
    st.sets(st.integers()),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.builds(Point, st.integers()),
    st.just(Level.HIGH),
    st.just(Text("x")),
    st.just(OrderedDict(a=1)),
    st.just("\ud800"),
    st.just({"\udfff": 1}),
    st.just(bytearray(b"x")),
    st.just(range(3)),
)
values = st.recursive(
    plain | strange, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def same(one: Any, other: Any) -> bool:
    """Compare values and their types at every depth (1, 1.0 and True differ)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(k, q) and same(v, w) for (k, v), (q, w) in pairs)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and one == other
    return bool(one == other)


# -- round trips ------------------------------------------------------------------------------------------------------


@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert same(CODEC.loads(CODEC.dumps(value, SUBJECT), SUBJECT), value)


@given(plain)
def test_plain_data_travels_as_msgpack_with_and_without_a_key(value: Any) -> None:
    assert is_plain(value)
    form, body = UNSIGNED.encode(value)
    assert form == MSGPACK
    assert same(msgspec.msgpack.decode(body), value)


@given(values)
def test_is_plain_says_exactly_what_msgpack_gives_back(value: Any) -> None:
    try:
        comes_back = same(msgspec.msgpack.decode(msgspec.msgpack.encode(value)), value)
    except (TypeError, OverflowError, UnicodeEncodeError, msgspec.DecodeError):
        comes_back = False

    assert is_plain(value) == comes_back


def test_keys_that_are_not_text_are_pickled() -> None:
    """msgpack could write some of them; the codec does not distinguish."""
    assert not is_plain({1: 2})
    assert CODEC.loads(CODEC.dumps({1: 2, "1": 3}, SUBJECT), SUBJECT) == {1: 2, "1": 3}


def test_nan_is_plain() -> None:
    assert math.isnan(CODEC.loads(CODEC.dumps(math.nan, SUBJECT), SUBJECT))


def test_deep_and_large_data_is_pickled_after_a_short_check() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    large = list(range(20_000))

    assert not is_plain(deep)
    assert not is_plain(large)
    assert not is_plain([large])
    assert not is_plain({"a": dict.fromkeys(map(str, large))})
    assert CODEC.loads(CODEC.dumps(deep, SUBJECT), SUBJECT) == deep
    assert is_plain(large[:9_999])
    assert not is_plain(large[:10_000])
    assert is_plain({"a": large[:4_000], "b": large[:4_000]})


def test_data_that_contains_itself_is_not_plain() -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert not is_plain(loop)
    back = CODEC.loads(CODEC.dumps(loop, SUBJECT), SUBJECT)
    assert back[0] is back


def test_code_from_a_notebook_is_pickled_by_value() -> None:
    assert CODEC.encode(Point(1))[0] == PICKLE
    form, body = CODEC.encode(lambda x: x + 1)
    assert form == CLOUDPICKLE
    assert CODEC.loads(CODEC.seal(form, body, SUBJECT), SUBJECT)(41) == 42


def test_a_value_that_cannot_be_pickled_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidParams, match="a value of type generator cannot be pickled: "):
        CODEC.dumps((n for n in range(3)), SUBJECT)


def test_a_pickle_needs_a_key() -> None:
    with pytest.raises(InvalidParams, match=r"type Point can only travel as a pickle.*set JOBKIT_SECRET"):
        UNSIGNED.dumps(Point(1), SUBJECT)
    assert UNSIGNED.loads(UNSIGNED.dumps({"n": 1}, SUBJECT), SUBJECT) == {"n": 1}


# -- refusals ---------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a refused payload was unpickled",)


BOMB = pickle.dumps(Bomb(), protocol=5)


def refused(codec: Codec, envelope: bytes, message: str, subject: Subject = SUBJECT) -> None:
    with pytest.raises(SignatureError, match=message):
        codec.loads(envelope, subject)
    with pytest.raises(SignatureError, match=message):
        codec.verify(envelope, subject)


@pytest.mark.parametrize("envelope", [b"", b"JK1", b"JK1" + bytes(36), BOMB, b"JK2" + bytes(100), b"\x80" * 200])
def test_bytes_that_are_not_an_envelope_are_refused(envelope: bytes) -> None:
    refused(CODEC, envelope, "the call of job job1 is not a jobkit payload")
    refused(UNSIGNED, envelope, "is not a jobkit payload")


def test_an_unsigned_payload_is_refused_with_a_key() -> None:
    refused(CODEC, UNSIGNED.dumps(1, SUBJECT), "is not signed; JOBKIT_SECRET must be the same")
    refused(CODEC, UNSIGNED.seal(PICKLE, BOMB, SUBJECT), "is not signed")


def test_a_pickle_is_refused_without_a_key() -> None:
    for form in (PICKLE, CLOUDPICKLE):
        refused(UNSIGNED, UNSIGNED.seal(form, BOMB, SUBJECT), "has a format that is not allowed here")


def test_a_signed_payload_is_refused_without_a_key() -> None:
    refused(UNSIGNED, CODEC.dumps(1, SUBJECT), "is signed, but there is no JOBKIT_SECRET here")


def test_a_payload_of_another_key_is_refused() -> None:
    refused(CODEC, Codec([b"other"]).seal(PICKLE, BOMB, SUBJECT), "does not carry a valid signature")


def test_a_forged_signature_is_refused() -> None:
    signed = CODEC.seal(PICKLE, b"x", SUBJECT)

    refused(CODEC, signed[:7] + bytes(32) + PICKLE + BOMB, "does not carry a valid signature")
    refused(CODEC, signed[:40] + BOMB, "does not carry a valid signature")


def test_an_unknown_format_is_refused_even_when_it_is_signed() -> None:
    refused(CODEC, CODEC.seal(b"x", b"body", SUBJECT), "has a format that is not allowed here")


@pytest.mark.parametrize(
    "other",
    [
        Subject("result", "job1", "simulate"),
        Subject("args", "job2", "simulate"),
        Subject("args", "job1", "train"),
        Subject("args", "job1simulate", ""),
    ],
)
def test_a_payload_of_another_subject_is_refused(other: Subject) -> None:
    refused(CODEC, CODEC.seal(PICKLE, BOMB, other), "does not carry a valid signature")


@given(st.data())
def test_one_flipped_bit_is_refused(data: Any) -> None:
    envelope = bytearray(CODEC.dumps({"n": [1, 2.5, "x"]}, SUBJECT))
    bit = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SignatureError):
        CODEC.loads(bytes(envelope), SUBJECT)


@given(st.data())
def test_a_cut_or_longer_payload_is_refused(data: Any) -> None:
    envelope = CODEC.dumps({"n": [1, 2.5, "x"]}, SUBJECT)
    cut = data.draw(st.integers(0, len(envelope) - 1))

    for altered in (envelope[:cut], envelope + envelope[cut:]):
        with pytest.raises(SignatureError):
            CODEC.loads(altered, SUBJECT)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(envelope: bytes) -> None:
    for codec in (CODEC, UNSIGNED):
        with pytest.raises(SignatureError):
            codec.verify(b"JK1" + b"\x01" + envelope, SUBJECT)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_can_be_rotated_without_a_gap() -> None:
    """First every process verifies the new key, then every process signs with it, then the old key is removed."""
    old, both, swapped, new = (Codec.from_secret(secret) for secret in ("old", "old, new", "new,old", "new"))
    by_old, by_new = both.dumps(1, SUBJECT), swapped.dumps(1, SUBJECT)

    assert by_old == old.dumps(1, SUBJECT)
    assert by_new == new.dumps(1, SUBJECT)
    for codec in (both, swapped):
        assert codec.loads(by_old, SUBJECT) == codec.loads(by_new, SUBJECT) == 1
    refused(new, by_old, "does not carry a valid signature")
    refused(old, by_new, "does not carry a valid signature")


def test_a_retired_key_is_valid_for_what_the_store_holds_alone() -> None:
    now = Codec.from_secret("new, retired:secret")

    sealed = CODEC.dumps(1, SUBJECT)
    assert now.loads(sealed, SUBJECT) == 1
    with pytest.raises(SignatureError, match="replaced when a machine was revoked"):
        now.verify(sealed, SUBJECT, is_stored=False)
    assert now.verify(now.dumps(2, SUBJECT), SUBJECT, is_stored=False)
    with pytest.raises(SignatureError):
        CODEC.loads(now.dumps(3, SUBJECT), SUBJECT)


def test_an_unknown_key_is_asked_for_once() -> None:
    asked = []

    def renewed() -> str:
        asked.append(1)
        return "new,retired:secret"

    codec = Codec.from_secret("secret", renewed)
    assert codec.loads(Codec([b"new"]).dumps(1, SUBJECT), SUBJECT) == 1
    assert codec.key_ids[0] == Codec([b"new"]).key_ids[0], "it signs with the new key"
    for _ in range(3):
        with pytest.raises(SignatureError):
            codec.loads(Codec([b"strange"]).dumps(1, SUBJECT), SUBJECT)
    assert len(asked) == 2


@pytest.mark.parametrize("secret", ["", " ", ",", " , "])
def test_an_empty_secret_is_not_a_key(secret: str) -> None:
    codec = Codec.from_secret(secret)

    assert not codec.allow_pickle
    assert codec.dumps(1, SUBJECT) == UNSIGNED.dumps(1, SUBJECT)


def test_the_secret_is_not_in_an_envelope() -> None:
    secret = b"correct horse battery staple"

    assert secret not in Codec([secret]).dumps({"n": 1}, SUBJECT)


def test_pickles_can_be_forbidden_with_a_key_and_allowed_without() -> None:
    strict = Codec([b"secret"], allow_pickle=False)

    with pytest.raises(InvalidParams, match="can only travel as a pickle"):
        strict.dumps(Point(1), SUBJECT)
    refused(strict, CODEC.seal(PICKLE, BOMB, SUBJECT), "has a format that is not allowed here")
    free = Codec(allow_pickle=True)
    assert free.loads(free.dumps(Point(1), SUBJECT), SUBJECT) == Point(1)


def test_a_bokeh_figure_can_be_read_back_many_times() -> None:
    """Bokeh models cannot be pickled; the card of such a job says that `job.result()` returns the figure."""
    from bokeh.layouts import row
    from bokeh.plotting import figure

    made = figure(title="Losses")
    made.line([1, 2, 3], [3, 1, 2])

    form, body = pickled({"figure": made, "loss": 0.5})

    first, second = (decode(form, body) for _ in range(2))
    assert first["loss"] == 0.5
    assert first["figure"].title.text == "Losses"
    assert list(first["figure"].renderers[0].data_source.data["y"]) == [3, 1, 2]
    both = {model.id for model in row(first["figure"], second["figure"]).references()}
    assert len(both) == 1 + 2 * len(made.references())


def test_the_open_of_a_notebook_is_sent_as_pythons_own() -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell")

    _, body = pickled([shell._modified_open], has_code=True)

    assert pickle.loads(body) == [open]
