"""CSV files: separators and decimal points as found, types guessed from the first 16 MiB."""

import io
import re
from collections.abc import Collection, Iterator, Sequence
from csv import Error as CsvError
from csv import reader
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as csv

from mopl_jax.io import packed

SUFFIXES = (".csv", ".tsv")
SEPARATORS = ",;\t|"
NAMES = {"\t": "tabs", ";": "semicolons", "|": "bars"}
LOOKED_AT = 200  # lines by which the decimal point is told
_SERIAL = csv.ReadOptions(
    use_threads=False, block_size=2**24
)  # only the serial reader says in which row it failed


class Dialect(NamedTuple):
    """How a file is written: what separates columns, and what decimals."""

    separator: str = ","
    decimal: str = "."


def dialect_of(path: Path) -> Dialect:
    """The separator that the header has most of; a decimal comma where numbers have no point."""
    head = packed.head_of(path)
    text = head.decode(packed.encoding_of(head), "replace").lstrip("\ufeff")
    header, *lines = [line for line in text.splitlines()[:LOOKED_AT] if line] or [""]
    plain = re.sub(r'"[^"]*"', "", header)
    separator = max(SEPARATORS, key=plain.count)
    fields = [field.strip('" ') for line in lines for field in line.split(separator)]
    commas, points = (
        any(re.fullmatch(rf"-?\d+{mark}\d+(e-?\d+)?", field) for field in fields)
        for mark in (",", r"\.")
    )
    return Dialect(separator, "," if commas and not points and separator != "," else ".")


def remarks(path: Path) -> tuple[str, ...]:
    """What was found out about a file."""
    dialect, encoding = dialect_of(path), packed.encoding_of(packed.head_of(path))
    found = [f"columns separated by {NAMES[dialect.separator]}"] if dialect.separator != "," else []
    found += ["decimal commas"] if dialect.decimal == "," else []
    found += [encoding.upper()] if encoding != "utf-8" else []
    return (f"{path}: read as {', '.join(found)}",) if found else ()


def schema_of(path: Path) -> pa.Schema:
    """Names and guessed types of the columns."""
    with _opened(path, {}) as file:
        return file.schema


def batches(
    path: Path, names: Sequence[str], schema: pa.Schema, text: Collection[str]
) -> Iterator[pa.RecordBatch]:
    """The columns `names`, whole numbers read as numbers of any kind, `text` ones as text."""
    types = {name: _csv_type(schema.field(name).type) for name in names} | dict.fromkeys(
        text, pa.string()
    )
    yield from _rows(path, names, types)


def count(path: Path) -> int:
    """Counted by the first column, as bytes: what nobody asks for is not looked at."""
    first = schema_of(path).names[0]
    return sum(batch.num_rows for batch in _rows(path, [first], {first: pa.binary()}))


class _opened:  # noqa: N801  (a context)
    """A reader of a file, whose stream is closed with it."""

    def __init__(self, path, options):
        self.path, self.options, self.dialect = path, options, dialect_of(path)

    def __enter__(self):
        self.text = packed.text_of(self.path)
        self.reader = csv.open_csv(
            self.text.__enter__(),
            read_options=_SERIAL,
            parse_options=csv.ParseOptions(delimiter=self.dialect.separator),
            convert_options=csv.ConvertOptions(
                decimal_point=self.dialect.decimal,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                **self.options,
            ),
        )
        return self.reader

    def __exit__(self, *error):
        self.reader.close()
        self.text.__exit__(*error)


def _rows(path, names, types):
    """An unquoted NA, null, nan … or nothing is a missing value, also of text; in quotes it is
    text.
    """
    rows = 0
    with _opened(path, {"include_columns": names, "column_types": types}) as file:
        for batch in file:
            yield batch
            rows += batch.num_rows
    _check_quotes(path, rows)


def _csv_type(guess):
    return pa.float64() if pa.types.is_integer(guess) or pa.types.is_null(guess) else guess


def _check_quotes(path, rows):
    """ValueError where a quote that is not closed has swallowed rows: fewer `rows` than lines, and
    not by the rules of CSV.
    """
    ends, last = 0, b"\n"
    with packed.text_of(path) as file:
        while block := file.read(2**24):
            ends, last = ends + block.count(b"\n"), block[-1:]
    if rows + 1 == ends + (last != b"\n"):
        return
    begin = found = 0
    separator = dialect_of(path).separator
    with packed.text_of(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        records = reader(text, strict=True, delimiter=separator)
        try:
            for record in records:
                found, begin = found + bool(record), records.line_num
        except CsvError as error:
            raise ValueError(
                f"{path}: line {begin + 1}: a quote is not closed or not doubled ({error}); repair"
                " the line"
            ) from None
    if found != rows + 1:
        raise ValueError(
            f"{path}: expected {found - 1} rows, got {rows}: text with line breaks is not read;"
            " export it without"
        )
