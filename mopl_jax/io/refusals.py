"""Why a document was refused, in one line: where, what was expected, what is there.

msgspec's own words name types and a path; these name keys, entries and the nearest right answer.
"""

import contextlib
import json
import re
from collections.abc import Generator
from typing import Any

from msgspec import inspect

from mopl_jax.numerics.check import choose

_LONGEST = 1000
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


@contextlib.contextmanager
def within(place: str, remedy: str = "") -> Generator[None, None, None]:
    """Complaints of the block begin with `place` and end with `remedy`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}{remedy}" if place else str(error)) from None


def short(value: Any) -> str:
    """`value` in at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def one_line(text: str) -> str:
    """`text` as one line of at most `_LONGEST` letters that a terminal can show: what it would obey
    is escaped, the middle of a longer one left out.
    """
    plain = "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
    half = _LONGEST // 2
    return plain if len(plain) <= _LONGEST else f"{plain[:half]} … {plain[-half + 3 :]}"


def refuse(message: str, content: Any, kind: Any, what: str) -> None:
    """ValueError with the place at which `message` points."""
    words, path = _MESSAGE.fullmatch(message).groups("")  # pyright: ignore[reportOptionalMemberAccess]
    value, info, places = content, inspect.type_info(kind), []
    for name, index in _STEP.findall(path.removesuffix(".kind")):
        info = _inside(info, value).get(name)
        value = value[name or int(index)]
        places += [name] if name else [_entry(places.pop(), int(index), value, info)]
    if places and path.endswith(f".{places[-1]}") and not words.startswith("Object"):
        places[-1] = f"key {places[-1]!r}"
    with within(", ".join(places)):
        if path.endswith(".kind"):
            choose([_word(value["kind"])], _structs(info), f"kind of {what}".removesuffix(" of "))
        _complain(words, value, info, what or "table")


def _structs(info) -> dict[Any, inspect.StructType]:
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
        choose([_word(value)], dict.fromkeys(map(str, info.values)), "name")
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
