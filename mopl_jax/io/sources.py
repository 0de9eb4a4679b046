"""Where rows come from: Parquet, Arrow and CSV files, folders of them, and anything with the
Arrow interface; in batches.

A source may be scanned as often as a formula needs; one scan holds 131,072 rows (Parquet), a
record batch (Arrow) or 16 MiB (CSV) at a time. Complaints are one-line ValueErrors with the file
and what to do.
"""

import contextlib
import difflib
import functools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from csv import Error as CsvError
from csv import reader
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
}
_BATCH = 2**17  # rows of one batch
_SERIAL = csv.ReadOptions(
    use_threads=False, block_size=2**24
)  # only the serial reader says in which row it failed


class Piece(NamedTuple):
    """Consecutive rows of one file.

    `place`: the file.
    `first_row`: the number of the first of these rows in the file, counted from zero.
    `rows`: the columns that were asked for.
    `part`: which of several pooled sources they are of, from 0.
    """

    place: str
    first_row: int
    rows: pa.RecordBatch
    part: int = 0


class Source(NamedTuple):
    """Rows that can be scanned as often as needed.

    `name`: the path, or the type of a table in memory.
    `schema`: names and types of the columns.
    `scan`: `scan(columns, text)` gives all rows; `text` columns are not parsed as numbers.
    `count`: `count()` is the number of rows.
    `remarks`: what was done to read it that the user may not expect.
    """

    name: str
    schema: pa.Schema
    scan: Callable[[Sequence[str], Collection[str]], Iterator[Piece]]
    count: Callable[[], int]
    remarks: tuple[str, ...] = ()

    def column(self, name: str) -> str:
        """`name`, or ValueError unless it is one column, with the nearest that is."""
        known = self.schema.names
        if known.count(name) > 1:
            raise ValueError(
                f"{self.name}: expected one column {name!r}, got {known.count(name)}; rename them"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{self.name}: no column {name!r}; {hint}columns: {', '.join(known)}")
        return name


def open_source(source: Any) -> Source:
    """A source from the path of a file or folder, or from what pyarrow makes a table of (pandas,
    polars, DuckDB, a dict).

    A folder holds files of one kind, in any depth; folders named `key=value` give columns (hive
    partitions); names that start with `.` or `_` are passed over. ValueError for what is absent,
    unreadable or empty of files.
    """
    if isinstance(source, Source):
        return source
    if not isinstance(source, str | Path):
        return _from_arrow(source)
    if source == "":
        raise ValueError("expected the path of a log, got an empty one; name a file or a folder")
    path = Path(source)
    files, kind = _files(path)
    return _from_files(path, files, kind)


def pooled(sources: Sequence[Source]) -> Source:
    """The rows of several sources, one after the other; the columns are those of the first."""

    def scan(names, text):
        for part, source in enumerate(sources):
            for name in names:
                source.column(name)
            yield from (piece._replace(part=part) for piece in source.scan(names, text))

    name = " + ".join(source.name for source in sources)
    remarks = tuple(text for source in sources for text in source.remarks)
    count = lambda: sum(source.count() for source in sources)  # noqa: E731
    return Source(name, sources[0].schema, scan, count, remarks)


def _files(path):
    """The files of a path, and their kind."""
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(_FORMATS)}, got {path.suffix!r};"
            " convert it"
        )
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise ValueError(f"{path}: expected a file, got a pipe or a device; store it as a file")
    return [path], _FORMATS[path.suffix.lower()]


def _in_folder(folder):
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in _FORMATS and file.is_file()
    ]
    files = [
        file
        for file in found
        if not any(part[0] in "._" for part in file.relative_to(folder).parts)
    ]
    kinds = sorted({_FORMATS[file.suffix.lower()] for file in files})
    if not files:
        raise ValueError(
            f"{folder}: expected files ending in {', '.join(_FORMATS)}, got none in this directory"
        )
    if len(kinds) > 1:
        raise ValueError(
            f"{folder}: expected files of one kind, got {' and '.join(kinds)}; name one file or"
            " convert"
        )
    return files, kinds[0]


@contextlib.contextmanager
def _complaints(path, kind):
    """What the system or pyarrow says, as one line with the file."""
    kind = {"ipc": "arrow"}.get(kind, kind)
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({_reason(error)}); check the path and its permissions"
        ) from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read as {kind} ({_reason(error)}); export the file again"
        ) from None


def _reason(error):
    """First line of the system's or pyarrow's own words; its physical CSV rows count the header, so
    they are lines.
    """
    words = getattr(error, "strerror", None) or str(error)
    return words.splitlines()[0].replace("Row #", "line ")[:160] if words else type(error).__name__


# Files.


def _from_files(path, files, kind):
    """Every file is read with its own types; folders named `key=value` give columns."""
    for file in files:
        with _complaints(file, kind):
            if file.stat().st_size == 0:
                raise ValueError(
                    f"{file}: cannot be read as {kind} (the file is empty); export the file again"
                )
    batches, number_of_rows, schema_of = _READERS[kind]
    with _complaints(files[0], kind):
        schema = schema_of(files[0])
        _ = schema.names  # damaged names fail when they are decoded
    parts = [(file, _keys(path, file)) for file in files]
    keys = list(dict.fromkeys(name for _, folders in parts for name in folders))
    types = {
        key: _key_type([folders.get(key) for _, folders in parts])
        for key in keys
        if key not in schema.names
    }
    whole = pa.schema([*schema, *types.items()])

    def scan(names, text):
        for file, folders in parts:
            given = {
                name: _constant(folders[name], pa.string() if name in text else types[name])
                for name in names
                if name in types and name in folders
            }
            with _complaints(file, kind):
                yield from _pieces(file, given, schema, list(names), text, batches)

    def count():
        total = 0
        for file in files:
            with _complaints(file, kind):
                total += number_of_rows(file)
        return total

    return Source(str(path), whole, scan, functools.cache(count))


def _keys(path, file):
    """The columns that folders named `key=value` give (Hive), as text; None for a missing one."""
    folders = file.relative_to(path).parts[:-1] if path.is_dir() else ()
    named = (unquote(folder).partition("=") for folder in folders if "=" in folder)
    return {key: None if value == _NO_KEY else value for key, _, value in named}


_NO_KEY = "__HIVE_DEFAULT_PARTITION__"


def _key_type(values):
    whole = all(value is None or re.fullmatch(r"-?\d{1,18}", value) for value in values)
    return pa.int64() if whole else pa.string()


def _constant(value, kind):
    return pa.scalar(value, pa.string()).cast(kind)


def _pieces(path, folders, schema, names, text, batches):
    """The file's columns, and those that its folders give. (A data set's own scan ends up holding
    whole files.)
    """
    first, own = 0, [name for name in names if name not in folders]
    for rows in batches(path, own, schema, text):
        for name in own:
            if (found := rows.schema.names.count(name)) != 1:
                raise ValueError(
                    f"{path}: expected one column {name!r}, as other files of the data set have,"
                    f" got {found or 'none'}; export it again"
                )
        rows.validate(full=True)  # damaged offsets would be followed out of the file
        columns = [
            pa.repeat(folders[name], rows.num_rows) if name in folders else rows.column(name)
            for name in names
        ]
        yield Piece(str(path), first, pa.RecordBatch.from_arrays(columns, names=names))
        first += rows.num_rows


def _parquet_batches(path, names, schema, text):
    """Those of the columns that the file has."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for group in range(file.num_row_groups):  # of all at once, it holds what it has read
            yield from file.iter_batches(_BATCH, row_groups=[group], columns=names)


def _parquet_rows(path):
    return pq.read_metadata(path).num_rows


def _ipc_batches(path, names, schema, text):
    with pa.ipc.open_file(path) as file:
        here = [name for name in names if name in file.schema.names]
        for i in range(file.num_record_batches):
            rows = file.get_batch(i).select(here)
            yield from (rows.slice(start, _BATCH) for start in range(0, rows.num_rows, _BATCH))


def _ipc_rows(path):
    with pa.ipc.open_file(path) as file:
        return sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))


def _ipc_schema(path):
    with pa.ipc.open_file(path) as file:
        return file.schema


# CSV.


def _csv_schema(path):
    with csv.open_csv(path, read_options=_SERIAL) as file:
        return file.schema


def _csv_batches(path, names, schema, text):
    """Types are guessed from the first 16 MiB, so whole numbers are read as numbers of any kind."""
    types = {name: _csv_type(schema.field(name).type) for name in names} | dict.fromkeys(
        text, pa.string()
    )
    yield from _csv(path, names, types)


def _csv(path, names, types):
    """An unquoted NA, null, nan … or nothing is a missing value, also of text; in quotes it is
    text.
    """
    options = csv.ConvertOptions(
        include_columns=names,
        column_types=types,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    rows = 0
    with csv.open_csv(path, read_options=_SERIAL, convert_options=options) as file:
        for batch in file:
            yield batch
            rows += batch.num_rows
    _check_quotes(path, rows)


def _csv_type(guess):
    return pa.float64() if pa.types.is_integer(guess) or pa.types.is_null(guess) else guess


def _csv_rows(path):
    """Counted by the first column, as bytes: what nobody asks for is not looked at."""
    first = _csv_schema(path).names[0]
    return sum(batch.num_rows for batch in _csv(path, [first], {first: pa.binary()}))


def _check_quotes(path, rows):
    """ValueError where a quote that is not closed has swallowed rows: fewer `rows` than lines, and
    not by the rules of CSV.
    """
    with path.open("rb") as file:
        ends = sum(block.count(b"\n") for block in iter(lambda: file.read(2**24), b""))
        file.seek(-1, os.SEEK_END)
        lines = ends + (file.read(1) != b"\n")
    if rows + 1 == lines:
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        records = reader(file, strict=True)
        begin = count = 0
        try:
            for record in records:
                count, begin = count + bool(record), records.line_num
        except CsvError as error:
            raise ValueError(
                f"{path}: line {begin + 1}: a quote is not closed or not doubled ({error}); repair"
                " the line"
            ) from None
    if count != rows + 1:
        raise ValueError(
            f"{path}: expected {count - 1} rows, got {rows}: text with line breaks is not read;"
            " export it without"
        )


_READERS = {
    "parquet": (_parquet_batches, _parquet_rows, pq.read_schema),
    "ipc": (_ipc_batches, _ipc_rows, _ipc_schema),
    "csv": (_csv_batches, _csv_rows, _csv_schema),
}


# Memory.


def _from_arrow(source):
    """A table in memory."""
    name = type(source).__name__
    try:
        table = source if isinstance(source, pa.Table) else pa.table(source)
    except (TypeError, pa.ArrowException) as error:
        raise ValueError(
            f"expected a path or a table (pandas, polars, pyarrow, DuckDB), got {name}"
            f" ({_reason(error)})"
        ) from None

    def scan(names, text):
        first = 0
        for rows in table.select(list(names)).to_batches(max_chunksize=_BATCH):
            yield Piece(name, first, rows)
            first += rows.num_rows

    return Source(name, table.schema, scan, lambda: table.num_rows)


def empty(name: object) -> str:
    """The complaint about a log without rows."""
    return f"{name}: expected at least one row, got an empty log; check the export that produced it"
