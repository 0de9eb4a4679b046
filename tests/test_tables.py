"""Log tables: what is read is what was written, and every complaint names its place."""

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from mopl_jax import tables

N = 7
RNG = np.random.default_rng(0)
LOG = {"r": RNG.normal(size=N), "p": RNG.uniform(0.1, 1, N), "q": RNG.uniform(0.1, 1, N)}
ROLES: dict[str, Any] = {"reward": "r", "propensity": "p", "target_propensity": "q"}


def write(path, columns):
    table = pa.table(columns)
    (csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pq", ".PARQUET"])
def test_round_trip_keeps_every_bit(tmp_path, suffix):
    log = tables.read_log(write(tmp_path / f"log{suffix}", LOG), **ROLES)
    np.testing.assert_array_equal(log.reward, LOG["r"])
    np.testing.assert_array_equal(log.log_weight, np.log(LOG["q"]) - np.log(LOG["p"]))


def test_log_densities_and_densities_are_the_same_log(tmp_path):
    logs = {"r": LOG["r"], "p": np.log(LOG["p"]), "q": np.log(LOG["q"])}
    by_density = tables.read_log(write(tmp_path / "a.parquet", LOG), **ROLES)
    by_log = tables.read_log(write(tmp_path / "b.parquet", logs), **ROLES, log_densities=True)
    np.testing.assert_array_equal(np.stack(by_density), np.stack(by_log))


@pytest.mark.parametrize(("log_densities", "zero"), [(False, 0.0), (True, -np.inf)])
def test_target_density_zero_is_data(tmp_path, log_densities, zero):
    path = write(tmp_path / "log.parquet", LOG | {"q": np.full(N, zero)})
    assert np.isneginf(tables.read_log(path, **ROLES, log_densities=log_densities).log_weight).all()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False]),
        pa.array([1, 0], pa.uint8()),
        pa.array([1, 0], pa.float16()),
        pa.array([decimal.Decimal("1.0"), decimal.Decimal("0.0")]),
        pa.chunked_array([[1], [0]]),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_number_becomes_float64(tmp_path, column):
    read = tables.read_columns(write(tmp_path / "log.parquet", {"x": column}), ["x", "x"])
    assert read["x"].dtype == np.float64
    assert read["x"].tolist() == [1, 0]


def test_only_named_columns_are_looked_at(tmp_path):
    path = write(tmp_path / "log.csv", {"x": [1.0], "other": ["text"]})
    assert list(tables.read_columns(path, ["x"])) == ["x"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_the_first_bad_row_is_named_counting_data_from_one(tmp_path, suffix, bad):
    path = write(tmp_path / f"log{suffix}", {"x": pa.array([0.5, bad, bad], pa.float64()), "y": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"log\.\w+: column 'x', row 2 \(row 1 is the first row of data\)"):
        tables.read_columns(path, ["x"])


def test_minus_infinity_only_where_it_was_asked_for(tmp_path):
    path = write(tmp_path / "log.parquet", {"x": [-np.inf], "y": [-np.inf]})
    with pytest.raises(ValueError, match="'y', row 1"):
        tables.read_columns(path, ["x", "y"], minus_infinity={"x"})


def test_on_policy_log_density_must_be_finite(tmp_path):
    path = write(tmp_path / "log.parquet", {"r": [1.0], "p": [-np.inf]})
    with pytest.raises(ValueError, match="'p', row 1"):
        tables.read_log(path, reward="r", propensity="p", target_propensity="p", log_densities=True)


def test_a_column_written_twice_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("x,x\n1,2\n")
    with pytest.raises(ValueError, match="expected one column 'x', got 2"):
        tables.read_columns(tmp_path / "log.csv", ["x"])


def test_a_torn_line_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("x,y\n1,2\n3\n")
    with pytest.raises(ValueError, match="line 3: Expected 2 columns, got 1"):
        tables.read_columns(tmp_path / "log.csv", ["x"])
