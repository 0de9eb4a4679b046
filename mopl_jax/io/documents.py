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


class Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table of a document, which other keys than its fields make wrong."""


class KindEntry(Entry, tag_field="kind"):
    """A table whose key `kind` says which keys it has."""


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
def within(place: str, remedy: str = "") -> Iterator[None]:
    """Complaints of the block begin with `place` and end with `remedy`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}{remedy}" if place else str(error)) from None


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
_KEY = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_TYPE = re.compile(r"Expected `(.*?)`(.*?)(?:, got .*)?", re.DOTALL)
_TYPES = {
    "array": "a list",
    "str": "a name",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _refuse(message, content, kind, what):
    """ValueError with the place at which `message` points."""
    words, path = _MESSAGE.fullmatch(message).groups("")  # pyright: ignore[reportOptionalMemberAccess]
    value, info, places = content, inspect.type_info(kind), []
    for name, index in _STEP.findall(path.removesuffix(".kind")):
        info = _inside(info, value).get(name)
        value = value[name or int(index)]
        places += [name] if name else [_entry(places.pop(), int(index), value, info)]
    if path.endswith(f".{places[-1]}" if places else " "):
        places[-1] = f"key {places[-1]!r}"
    with within(", ".join(places)):
        if path.endswith(".kind"):
            choose([_word(value["kind"])], _structs(info), f"kind of {what}".removesuffix(" of "))
        _complain(words, value, info, what or "table")


def _structs(info):
    """The structs that a type admits, by kind."""
    types = getattr(info, "types", (info,))
    return {each.tag: each for each in types if isinstance(each, inspect.StructType)}


def _inside(info, value):
    """The types of a table's keys; of a list's entries, the type under no name."""
    if not isinstance(value, dict):
        types = getattr(info, "types", (info,))
        return {"": next((each.item_type for each in types if hasattr(each, "item_type")), None)}
    structs = list(_structs(info).values())
    mine = [each for each in structs if each.tag == value.get("kind")] or structs
    return {field.encode_name: field.type for each in mine[:1] for field in each.fields}


def _entry(name, index, value, info):
    """An entry of the list `name`: a table by its own name, or by number from one."""
    if not _structs(info):
        return f"key {name!r}, entry {index + 1}"
    own = value.get("name") if isinstance(value, dict) else None
    return f"{name.removesuffix('s')} {repr(own) if isinstance(own, str) else index + 1}"


def _complain(words, value, info, what):
    if words.startswith("expected"):  # those of `_decode`
        raise ValueError(words)
    if key := _KEY.fullmatch(words):
        if key[1] == "contains unknown":
            choose([key[2]], _inside(info, value), "key")
        kinds = f", one of {', '.join(_structs(info))}" if key[2] == "kind" else ""
        raise ValueError(f"no key {key[2]!r}{kinds}; keys: {', '.join(map(str, value))}"[:300])
    if isinstance(info, inspect.LiteralType):
        choose([_word(value)], dict.fromkeys(info.values), "name")
    raise ValueError(f"expected {_expected(words, what)}, got {short(value)}")


def _word(value):
    return value if isinstance(value, str) else short(value)


def _expected(words, what):
    """`int | array` >= 2: a whole number or a list of at least 2."""
    types = _TYPE.fullmatch(words)
    if types is None or "e+308" in words:  # out of range
        return "a finite number"
    names = {**_TYPES, "object": f"a {what}"}
    either = " or ".join(names.get(name, name) for name in types[1].split(" | ") if name != "null")
    rest = types[2].replace(" of length >=", " >=").removesuffix(".0")
    return either + rest.replace(">=", "of at least").replace("<=", "of at most")


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
