"""Documents in JSON and TOML: read, fitted to the structs that describe them, or refused in one
line that says where, what was expected and what is there.

msgspec checks types, keys and kinds (structs that share a `kind` are its tagged unions);
`refusals` says what it finds.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from mopl_jax.io.refusals import refuse, short

Numbers = np.ndarray  # a field of this type is one number or nested lists of them, all finite
Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
LARGEST = 2**26  # letters of a document
ABSENT: Any = None  # the default of a key that may be left out; null is refused all the same


class Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table of a document, which other keys than its fields make wrong."""


class KindEntry(Entry, tag_field="kind"):
    """A table whose key `kind` says which keys it has."""


def load(path: os.PathLike[str] | str, parse: Callable[[str], Any], refusal: str) -> Any:
    """What `parse` makes of a file's text; ValueError with `refusal`, of which {} is the reason."""
    check_file(Path(path))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"expected at most {LARGEST:,} letters, got more")
        return parse(text)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {refusal.format(str(error)[:100])}") from None


_GIVEN = {Path("/dev/stdin"), Path("/dev/fd"), Path("/proc/self/fd")}  # pipes that a shell fills


def check_file(path: Path) -> None:
    """ValueError for a pipe or a device, which may be waited for without end."""
    ends = os.path.isfile(path) or os.path.isdir(path)
    if os.path.exists(path) and not ends and not {path, path.parent} & _GIVEN:
        raise ValueError(f"{path}: expected a file, got a pipe or a device; store it as a file")


def numbered(text: str) -> Any:
    """What JSON holds, of whose whole numbers all are as large as a float may be."""
    return json.loads(text, parse_int=_whole)


def _whole(digits):
    if len(digits) > sys.float_info.max_10_exp:
        raise ValueError(f"a whole number of {len(digits)} digits, which no float holds")
    return int(digits)


@contextlib.contextmanager
def flat() -> Generator[None, None, None]:
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
            message = str(error)
        with contextlib.suppress(LookupError, TypeError):  # a key that looks like msgspec's words
            refuse(message, content, kind, what)
        raise ValueError(" ".join(message.split()))


def _decode(kind, value):
    if kind is not Numbers:
        raise NotImplementedError
    try:
        found = np.asarray(value)
        words = found.dtype == object and not all(type(x) in (int, float) for x in found.flat)
        if words or found.dtype.kind not in "iufO":
            raise ValueError
        numbers = found.astype(float)
    except ValueError:  # words, or lists of unequal lengths
        raise ValueError(f"expected numbers, got {short(value)}") from None
    except OverflowError:
        numbers = np.array(np.inf)
    if not np.isfinite(numbers).all():
        raise ValueError(f"expected finite numbers, got {short(value)}")
    return numbers


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
