"""The same numbers from Spark, on this machine: one session of two cores."""

import shutil

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import LOGGING, TARGET, assert_same, columns

import mopl_jax as mopl

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of Spark's own libraries
]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The log as a table of Spark."""
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    path = tmp_path_factory.mktemp("spark") / "log.parquet"
    pq.write_table(pa.table(columns()), path)
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", False)
    session = builder.config("spark.sql.shuffle.partitions", 2).getOrCreate()
    yield ibis.pyspark.connect(session).read_parquet(path)
    session.stop()


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}], ids=str)
def test_numbers_are_those_in_memory(log, options):
    found = mopl.evaluate(log, TARGET, **options).to_dict()
    assert_same(found, mopl.evaluate(pa.table(columns()), TARGET, **options).to_dict())


def test_differences_are_those_in_memory(log):
    found = mopl.compare(log, [LOGGING, TARGET]).to_dict()
    assert_same(found, mopl.compare(pa.table(columns()), [LOGGING, TARGET]).to_dict())


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}], ids=str)
def test_checks_are_those_in_memory(log, options):
    """But for the drift that a table has no order for, and what needs rows in memory."""
    found, expected = (
        mopl.check_log(each, logging=LOGGING, **options).to_dict()["findings"]
        for each in (log, pa.table(columns()))
    )
    known = {each["check"]: each for each in expected[1:]}  # the first says where the log lies
    assert len(found) >= 6
    assert {each["check"] for each in found[1:]} <= known.keys() | {"drift"}
    for each in found:
        if each["check"] in known:
            assert_same(each, known[each["check"]])


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}], ids=str)
def test_a_sample_teaches_and_the_others_certify(log, options):
    learnt = mopl.learn(log, logging=LOGGING, in_memory=300, **options)
    taught = len(learnt.logs.reward)
    assert 150 < taught < 300
    assert learnt.certifying == 500 - taught
    units = 60 if options else 500
    assert 0 < learnt.certificate.units < units
