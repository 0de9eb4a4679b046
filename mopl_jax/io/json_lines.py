"""JSON lines: an object a row, types guessed from the first 16 MiB; objects in objects are columns
`outer.inner` (`nested`).
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.json as json

from mopl_jax.io import packed

SUFFIXES = (".jsonl", ".ndjson", ".json", ".dsjson")
_SERIAL = json.ReadOptions(use_threads=False, block_size=2**24)


def remarks(path: Path) -> tuple[str, ...]:
    """Nothing."""
    return ()


def schema_of(path: Path) -> pa.Schema:
    """Names and guessed types of the columns."""
    with packed.text_of(path) as stream, json.open_json(stream, read_options=_SERIAL) as file:
        return file.schema


def batches(path: Path, names, schema, text):
    """Those of the columns; no other is parsed."""
    asked = pa.schema([(name, _wide(schema.field(name).type)) for name in names])
    options = json.ParseOptions(explicit_schema=asked, unexpected_field_behavior="ignore")
    with (
        packed.text_of(path) as stream,
        json.open_json(stream, read_options=_SERIAL, parse_options=options) as file,
    ):
        for batch in file:
            yield batch.select(list(names))


def count(path: Path) -> int:
    """By the first column."""
    schema = schema_of(path)
    return sum(batch.num_rows for batch in batches(path, schema.names[:1], schema, ()))


def _wide(kind: pa.DataType) -> pa.DataType:
    """The type whose whole numbers are numbers of any kind: later ones may have a point."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wide(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    return pa.float64() if pa.types.is_integer(kind) or pa.types.is_null(kind) else kind
