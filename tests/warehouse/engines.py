"""A log, the same log in an engine, and what it is for two documents to say the same."""

import contextlib
import functools
import sqlite3

import ibis
import jax
import numpy as np
import pyarrow as pa
import pytest

from mopl_jax.policies import Gaussian

D = 3
LOGGING = Gaussian.diagonal(np.zeros(D), 1.0)
TARGET = Gaussian.full(np.full(D, 0.2), 0.4 * np.eye(D) + 0.1)
NEAR = Gaussian.diagonal(np.full(D, 0.1), 0.9)


def densities(policy, action):
    return np.asarray(jax.vmap(policy.log_density)(action))


@functools.cache
def columns(n=500, users=60):
    """A log that `LOGGING` played, as columns; users are text."""
    rng = np.random.default_rng(3)
    action = rng.normal(size=(n, D))
    reward = action @ np.array([1.0, -0.5, 0.2]) + rng.normal(size=n)
    user = [f"user {k}" for k in rng.integers(0, users, n)]
    named = {f"action_{k}": action[:, k] for k in range(D)}
    more = {"before": reward + rng.normal(size=n), "views": 1.0 + np.arange(n) % 3}
    more |= {"kept": np.where(reward > 0, 1.0, 0.25), "user": user}
    return named | more | {"reward": reward, "log_propensity": densities(LOGGING, action)}


def engine(table):
    """The rows as a table of DuckDB."""
    connection = ibis.duckdb.connect()
    connection.con.register("rows", pa.table(table))
    connection.con.execute("CREATE TABLE log AS SELECT * FROM rows")
    return connection.table("log")


def sqlite_engine(table, path):
    """The rows as a table of SQLite, which has no words for NaN, infinity, medians and hashes."""
    kinds = {name: "text" if isinstance(x[0], str) else "real" for name, x in table.items()}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        named = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
        connection.execute(f"CREATE TABLE log ({named})")
        rows = zip(*(np.asarray(x).tolist() for x in table.values()), strict=True)
        places = ", ".join("?" * len(table))
        connection.executemany(f"INSERT INTO log VALUES ({places})", rows)
        connection.commit()
    return ibis.sqlite.connect(path).table("log")


def entries(value, path=""):
    """The numbers and texts of a document by their paths."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from entries(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            yield from entries(inner, f"{path}.{k}")
    else:
        yield path, value


def assert_same(found, expected, besides=(".log",)):
    """Documents that agree: numbers to 1e-9 of their size."""
    found, expected = dict(entries(found)), dict(entries(expected))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        if path in besides:
            continue
        if isinstance(value, float):
            tiny = 1e-300 if value else 1e-12
            assert found[path] == pytest.approx(value, rel=1e-9, abs=tiny, nan_ok=True), path
        else:
            assert found[path] == value, path
