"""Tables of query engines: from a connection string, or an expression of ibis.

`duckdb://week.db#events` is the table `events` of a DuckDB file, `duckdb://#logs/*.parquet` Parquet
files read by DuckDB; before the `#` stands what `ibis.connect` takes, of any of its back ends.
Nothing imports ibis before a table is opened.
"""

import contextlib
import difflib
import logging
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)
EXTRA = "pip install 'mopl_jax[warehouse]'"
FILES = {
    **dict.fromkeys((".parquet", ".pq"), "read_parquet"),
    **dict.fromkeys((".csv", ".tsv"), "read_csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "read_json"),
}
LACKING = "OperationNotDefinedError", "UnsupportedOperationError"  # of ibis
PACKED = (".gz", ".zst")  # after the name of a text file


def is_address(source: Any) -> bool:
    """Whether a text is a connection string."""
    return isinstance(source, str) and "://" in source


def is_table(source: Any) -> bool:
    """Whether something is a table of ibis, which it is only where ibis was imported."""
    return type(source).__module__.startswith("ibis.") and hasattr(source, "schema")


def public(address: str) -> str:
    """The connection string as it may be shown and stored: without its password."""
    return re.sub(r"(://[^:/@#]*):[^/#]*@", r"\1:***@", address)


def open_table(address: str) -> Any:
    """The table of a connection string; ValueError, in one line, where there is none."""
    engine, _, name = address.partition("#")
    address = public(address)
    if not name:
        files = address if _kind(address) in FILES else "logs/*.parquet"
        raise ValueError(
            f"{address}: which table? name it after a '#', as duckdb://week.db#events, or files, as"
            f" duckdb://#{files}"
        )
    with said(address):
        connection = _connect(engine)
    reader = FILES.get(_kind(name))
    if reader is not None:
        with said(address):
            return _files(connection, reader, name)
    return _table(connection, name, address)


def _files(connection, reader, name):
    """The files of a name as one table.

    DuckDB is told to look at all rows and files before it says names and types, once. By itself
    it rounds numbers to the type that the first rows or the first file have, in silence, and
    matches the columns of several CSV files by their place.
    """
    read = getattr(connection, reader)
    if connection.name != "duckdb":
        return read(name)
    if reader == "read_parquet":
        return _shown(connection, read(name, union_by_name=True))
    own = {"union_by_name": True, "sample_size": -1, "hive_partitioning": False}
    found = read(name, **own).schema()
    types = {x: connection.compiler.type_mapper.to_string(kind) for x, kind in found.items()}
    given = "types" if reader == "read_csv" else "columns"
    return _shown(connection, read(name, union_by_name=True, **{given: types}))


def _shown(connection, table):
    """The table, after the query that made the view that it is."""
    ask = "SELECT sql FROM duckdb_views() WHERE view_name = ?"
    ((found,),) = connection.con.execute(ask, [table.get_name()]).fetchall()
    LOG.info("%s", found)
    return table


def _kind(name):
    """The ending of a file's name, before that of a packed one."""
    endings = reversed(Path(name.lower()).suffixes)
    return next((ending for ending in endings if ending not in PACKED), "")


def _connect(engine: str) -> Any:
    import ibis

    scheme, _, path = engine.partition("://")
    if scheme == "sqlite" and not Path(path.partition("?")[0]).is_file():
        raise ValueError("no such file")  # it would be made
    if scheme != "duckdb" or "?" in path:
        return ibis.connect(engine)
    if not path:
        return ibis.duckdb.connect()
    if path.startswith("md:"):
        return ibis.duckdb.connect(path)
    file = next((x for x in (Path(path), Path(path.lstrip("/"))) if x.is_file()), None)
    if file is None:
        raise ValueError("no such file")
    return ibis.duckdb.connect(file, read_only=True)


@contextlib.contextmanager
def said(address: str) -> Generator[None, None, None]:
    """What an engine or its import says, as one line; a missing one names what to install."""
    try:
        yield
    except ImportError as error:
        scheme = address.partition("://")[0]
        raise ValueError(
            f"{address}: the engine is not installed ({_first_line(error)}): {EXTRA}, and for"
            f" {scheme}: pip install 'ibis-framework[{scheme}]'"
        ) from None
    except Exception as error:
        reason = _first_line(error)
        unknown = "know how to connect" in reason  # says ibis
        remedy = (
            "expected ENGINE://PLACE#TABLE" if unknown else "check that it is there and may be read"
        )
        raise ValueError(f"{address}: cannot be opened ({reason}); {remedy}") from None


@contextlib.contextmanager
def complaints(name: str) -> Generator[None, None, None]:
    """What an engine raises, as one line with the name of the table."""
    try:
        yield
    except Exception as error:
        remedy = "is the engine still there, and may it read this table?"
        if type(error).__name__ in LACKING:
            remedy = "the engine cannot do this: export the log to Parquet"
        raise ValueError(f"{name}: the query failed ({_first_line(error)}); {remedy}") from None


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]


def _table(connection, name, address):
    database, _, inner = name.rpartition(".")
    for call in ((name, None), (inner, tuple(database.split(".")))):
        with contextlib.suppress(Exception):
            return connection.table(call[0], database=call[1])
    known = _tables(connection)
    if name in known:
        reason = _unreadable(connection, name)
        raise ValueError(f"{address}: cannot be opened ({reason}); may this table be read?")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"{address}: no table {name!r}; {hint}tables: {', '.join(known[:20]) or 'none'}"
    )


def _unreadable(connection, name) -> str:
    """What the engine says where a table is read that it knows by name."""
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
    try:
        connection.raw_sql(f"SELECT * FROM {quoted} LIMIT 0")
    except Exception as error:
        return _first_line(error)
    return "unknown reason"


def _tables(connection) -> list[str]:
    """The names of all tables, where the engine has the standard's view of them; with that of the
    schema, where it is not the current one.
    """
    query = "SELECT table_schema, table_name FROM information_schema.tables"
    with contextlib.suppress(Exception):
        schema = {"table_schema": "string", "table_name": "string"}
        rows = connection.sql(query, schema=schema).to_pyarrow().to_pylist()
        here = connection.current_database
        pairs = ((row["table_schema"], row["table_name"]) for row in rows)
        return sorted(table if place == here else f"{place}.{table}" for place, table in pairs)
    with contextlib.suppress(Exception):
        return sorted(connection.list_tables())
    return []
