"""Where rows come from: Parquet, Arrow, CSV and JSON lines, folders of them, and anything with the
Arrow interface; in batches.

A source may be scanned as often as a formula needs; one scan holds up to 131,072 rows of some
32 MiB (Parquet), a record batch (Arrow) or 16 MiB of text at a time. Complaints are one-line
ValueErrors with the file and what to do.
"""

import contextlib
import functools
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mopl_jax.io import csv_files, json_lines, packed
from mopl_jax.io.documents import check_file
from mopl_jax.io.nested import flat
from mopl_jax.io.source import Piece, Source
from mopl_jax.io.table_source import table_source
from mopl_jax.warehouse.connection import is_address, is_table

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    **dict.fromkeys(csv_files.SUFFIXES, "csv"),
    **dict.fromkeys(json_lines.SUFFIXES, "JSON lines"),
}
_TEXT = ("csv", "JSON lines")  # which may be packed
_BATCH = 2**17  # rows of one batch, fewer where they are more bytes than
_BYTES = 2**25  # as those of `_LOOKED_AT` tell: 32 numbers a row
_LOOKED_AT = 2**10
_DAMAGED = (
    *(pa.ArrowException, UnicodeError, zipfile.BadZipFile, zlib.error, EOFError),
    OverflowError,  # a whole number that no column holds
)


def open_source(source: Any) -> Source:
    """A source from the path of a file or folder, from a table of a query engine or its connection
    string, or from what pyarrow makes a table of (pandas, polars, DuckDB, a dict).

    A folder holds files of one kind, in any depth; folders named `key=value` give columns (hive
    partitions); names that start with `.` or `_` are passed over. ValueError for what is absent,
    unreadable or empty of files.
    """
    if isinstance(source, Source):
        return source
    if is_address(source) or is_table(source):
        return table_source(source)
    if not isinstance(source, str | Path):
        return flat(_from_arrow(source))
    if source == "":
        raise ValueError("expected the path of a log, got an empty one; name a file or a folder")
    path = Path(source)
    with _complaints(path, "a log"):
        files, kind = _files(path)
    return flat(_from_files(path, files, kind))


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
    kind = _kind(path)
    if kind is None:
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(_FORMATS)}, or of text with"
            f" {', '.join(packed.PACKED)} after that, got {path.suffix!r}; convert it"
        )
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path")
    check_file(path)
    return [path], kind


def _kind(path):
    """What a file is by its name, None where it is nothing that is read."""
    with _complaints(path, "an archive"):
        inner = Path(packed.name_of(path))
    kind = _FORMATS.get(inner.suffix.lower())
    return kind if kind in _TEXT or inner.name == path.name else None


def _in_folder(folder):
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if not any(part[0] in "._" for part in file.relative_to(folder).parts)
    ]
    named = {file: kind for file in found if file.is_file() and (kind := _kind(file))}
    files, kinds = list(named), sorted(set(named.values()))
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
    except _DAMAGED as error:
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
    batches, number_of_rows, schema_of, remarks_of = _READERS[kind]
    with _complaints(files[0], kind):
        schema, remarks = schema_of(files[0]), remarks_of(files[0])
        _ = schema.names  # damaged names fail when they are decoded
    parts = [(file, _keys(path, file)) for file in files]
    keys = list(dict.fromkeys(name for _, folders in parts for name in folders))
    types = {
        key: _key_type([folders.get(key) for _, folders in parts])
        for key in keys
        if key not in schema.names
    }
    whole = pa.schema([*schema, *types.items()], metadata=schema.metadata)

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

    return Source(str(path), whole, scan, functools.cache(count), remarks)


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
    """The columns `names` that the file has, in batches."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        asked = set(names)
        leaves = [i for i, leaf in enumerate(file.schema) if _column_of(leaf, asked) in asked]
        seen = 0.0  # bytes of a row, of the first ones
        for group in range(file.num_row_groups):  # of all at once, it holds what it has read
            rows = functools.partial(file.iter_batches, row_groups=[group], columns=names)
            seen = seen or _bytes_of_a_row(next(rows(_LOOKED_AT), None))
            yield from rows(_fitting(max(seen, _counted(file.metadata.row_group(group), leaves))))


def _column_of(leaf, names):
    return leaf.path if leaf.path in names else leaf.path.partition(".")[0]


def _counted(group, leaves):
    """Bytes of a row, by the file's own count of numbers."""
    return sum(8 * group.column(leaf).num_values for leaf in leaves) / max(group.num_rows, 1)


def _fitting(bytes_of_a_row):
    """Rows of a batch of about `_BYTES`: a file of a kilobyte may hold lists of a gigabyte."""
    return min(_BATCH, max(1, int(_BYTES / max(bytes_of_a_row, 1))))


def _bytes_of_a_row(rows):
    """As it is worked with, without dictionaries; of no rows none."""
    if rows is None:
        return 0.0
    decoded = (x.dictionary_decode() if pa.types.is_dictionary(x.type) else x for x in rows.columns)
    return sum(column.nbytes for column in decoded) / max(rows.num_rows, 1)


def _parquet_rows(path):
    return pq.read_metadata(path).num_rows


def _ipc_batches(path, names, schema, text):
    asked = set(names)
    for rows in _ipc(path, [i for i, x in enumerate(_ipc_schema(path).names) if x in asked]):
        all_of = rows.nbytes / max(rows.num_rows, 1)
        size = _fitting(max(all_of, _bytes_of_a_row(rows.slice(0, _LOOKED_AT))))
        yield from (rows.slice(start, size) for start in range(0, rows.num_rows, size))


def _ipc(path, fields):
    """The record batches, of some of the columns."""
    with pa.ipc.open_file(path, options=pa.ipc.IpcReadOptions(included_fields=fields)) as file:
        for i in range(file.num_record_batches):
            yield file.get_batch(i)


def _ipc_rows(path):
    return sum(rows.num_rows for rows in _ipc(path, [0]))


def _ipc_schema(path):
    with pa.ipc.open_file(path) as file:
        return file.schema


_READERS = {
    "parquet": (_parquet_batches, _parquet_rows, pq.read_schema, lambda path: ()),
    "ipc": (_ipc_batches, _ipc_rows, _ipc_schema, lambda path: ()),
    **{
        kind: (module.batches, module.count, module.schema_of, module.remarks)
        for kind, module in zip(_TEXT, (csv_files, json_lines), strict=True)
    },
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
