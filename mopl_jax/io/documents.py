"""Documents in JSON and TOML: read, fitted to the structs that describe them, or refused in one
line that says where, what was expected and what is there.

msgspec checks types, keys and kinds (structs that share a `kind` are its tagged unions); what it
finds is said here, for all documents, with the nearest right answer.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, inspect

from mopl_jax.numerics.check import choose

Numbers = np.ndarray  # a field of this type is one number or nested lists of them, all finite
Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
ABSENT: Any = None  # the default of a key that may be left out; null is refused all the same


class Entry(msgspec.Struct, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """A table of a document, which other keys than its fields make wrong."""


def load(path: Path | str, parse: Callable[[str], Any], refusal: str) -> Any:
    """What `parse` makes of a file's text; ValueError with `refusal`, of which {} is the reason."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {refusal.format(str(error)[:100])}") from None


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Complaints of the block begin with `place`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}" if place else str(error)) from None


@contextlib.contextmanager
def flat() -> Iterator[None]:
    """Tables in tables without end are one complaint."""
    try:
        yield
    except RecursionError:
        raise ValueError("expected fewer tables in tables; flatten them") from None


def fit(content: Any, kind: Any, what: str = "") -> Any:
    """`content` as `kind`, a struct or a union of structs of `what`; ValueError in one line."""
    with flat():
        try:
            return msgspec.convert(content, kind, dec_hook=_decode)
        except msgspec.ValidationError as error:
            _refuse(str(error), content, kind, what)
            raise


def _decode(kind, value):
    if kind is not Numbers:
        raise NotImplementedError
    try:
        found = np.asarray(value)
        words = found.dtype == object and not all(type(x) in (int, float) for x in found.flat)
        if words or found.dtype.kind not in "iufO":
            raise ValueError
        numbers = found.astype(np.float64)
    except ValueError:  # words, or lists of unequal lengths
        raise ValueError(f"expected numbers, got {short(value)}") from None
    except OverflowError:
        numbers = np.array(np.inf)
    if not np.isfinite(numbers).all():
        raise ValueError(f"expected finite numbers, got {short(value)}")
    return numbers


def short(value: Any) -> str:
    """`value` in at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


# What msgspec found, in our words.

_MESSAGE = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_WORDS = {
    "`array`": "a list",
    "`str`": "a name",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    ">=": "≥",
    "<=": "≤",
    " | ": " or ",
}


def _refuse(message, content, kind, what):
    """ValueError with the place at which `message` points."""
    words, path = _MESSAGE.fullmatch(message).groups("")  # pyright: ignore[reportOptionalMemberAccess]
    value, info, places, wrong_kind = content, inspect.type_info(kind), [], False
    for name, index in _STEP.findall(path):
        wrong_kind = name == "kind" and "kind" not in _fields(info, value)
        if not wrong_kind:
            info = _fields(info, value).get(name) if name else _item(info)
            value = value[name or int(index)]
            places += [name] if name else [_entry(places.pop(), int(index), value)]
    if places and not wrong_kind and places[-1].isidentifier():
        places[-1] = f"key {places[-1]!r}"
    with within(", ".join(places)):
        _say(words, value, info, wrong_kind, what)


def _structs(info):
    """The structs that a type admits, by kind."""
    types = getattr(info, "types", (info,))
    return {each.tag: each for each in types if isinstance(each, inspect.StructType)}


def _fields(info, value):
    """The types of a table's keys."""
    structs = _structs(info)
    only = next(iter(structs.values()), None)
    one = only if len(structs) == 1 else structs.get(str(value.get("kind")))
    return {} if one is None else {field.encode_name: field.type for field in one.fields}


def _item(info):
    types = getattr(info, "types", (info,))
    return next((each.item_type for each in types if hasattr(each, "item_type")), None)


def _entry(name, index, value):
    """An entry of the list `name`: by its own name, or by number from one."""
    if not isinstance(value, dict):
        return f"key {name!r}, entry {index + 1}"
    own = value.get("name", index + 1)
    return f"{name.removesuffix('s')} {own!r}"


def _say(words, value, info, wrong_kind, what):
    if wrong_kind:
        kind = value["kind"]
        choose(
            [kind if isinstance(kind, str) else short(kind)],
            _structs(info),
            f"kind of {what}".removesuffix(" of "),
        )
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", words, re.DOTALL):
        choose([unknown[1]], _fields(info, value), "key")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", words):
        kinds = f", one of {', '.join(_structs(info))}" if missing[1] == "kind" else ""
        raise ValueError(f"no key {missing[1]!r}{kinds}; keys: {', '.join(map(str, value))}"[:300])
    if isinstance(info, inspect.LiteralType):
        choose([str(value)], dict.fromkeys(map(str, info.values)), "name")
    if words.startswith("expected"):
        raise ValueError(words)
    raise ValueError(f"{_expected(words, what or 'table')}, got {short(value)}")


def _expected(words, what):
    if "out of range" in words or "e+308" in words:
        return "expected a finite number"
    words = re.sub(r", got .*|\.0\b", "", words).replace("Expected", "expected")
    words = words.replace("`object`", f"a {what}")
    for theirs, ours in _WORDS.items():
        words = words.replace(theirs, ours)
    return words


# Shapes, which depend on the number of weights.


def full(numbers: Numbers, shape: tuple[int, ...], key: str) -> Numbers:
    """`numbers` of `shape`; one number stands for a constant vector, or for that times I."""
    if numbers.shape == ():
        return numbers * (np.eye(*shape) if len(shape) == 2 else np.ones(shape))
    if numbers.shape != shape:
        wanted = " × ".join(map(str, shape))
        raise ValueError(f"key {key!r}: expected {wanted} numbers, got shape {numbers.shape}")
    return numbers


def length(numbers: Numbers, key: str) -> int:
    """d, of d ≥ 1 numbers."""
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"key {key!r}: expected d numbers, got shape {numbers.shape}")
    return numbers.size


def positive(numbers: Numbers, key: str) -> Numbers:
    """`numbers`, all of them > 0."""
    if not (numbers > 0).all():
        raise ValueError(f"key {key!r}: expected numbers > 0, got {numbers.min()}")
    return numbers
