"""The published schemas: they are schemas, and describe every key of every command's document,
whose golden numbers are looked at on the way.
"""

import json

import jsonschema
import pytest
from command import SCHEMAS, described, document, mopl, schema
from golden import GOLDEN, assert_golden

from mopl_jax.cli.app import COMMANDS

NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))
EXAMPLES = {
    "check": "check ex/log.toml --time day",
    "evaluate": "evaluate ex/log.toml --target ex/target.json",
    "smoothed": "evaluate ex/log.toml --target ex/production.json --bandwidth 0.2,0.4,1,0.1",
    "compare": "compare ex/log.toml logging ex/target.json",
    "plan": "plan --pilot ex/log.toml --step 0.1",
    "plan of a guess": "plan --d 3 --gain 0.05 --noise 0.5 --curvature 0.01 --horizon 1e7",
    "metric": "metric ex/past.parquet --north-star days",
    "monitor": "monitor ex/past.parquet --north-star days --planned 1e5",
    "draw": "draw ex/target.json --n 2",
}
LEARN = "learn ex/log.toml --production 1,2,5,0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example, once."""
    made = tmp_path_factory.mktemp("schemas")
    assert mopl("example", "--out", made / "ex").code == 0
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert schema(name)["title"].startswith(("mopl ", "a policy"))


def test_every_golden_number_is_looked_at():
    assert {*GOLDEN} <= {*EXAMPLES.values(), LEARN}
    assert sum(map(len, GOLDEN.values())) >= 20


def test_every_command_with_a_document_has_a_schema():
    assert {*NAMES, "example"} == {*COMMANDS, "policy"}


@pytest.mark.parametrize("case", EXAMPLES)
def test_every_key_of_a_document_is_described(case, folder, monkeypatch):
    monkeypatch.chdir(folder)
    command = EXAMPLES[case].split()
    said = document(*command)
    described(said, command[0])
    if EXAMPLES[case] in GOLDEN:
        assert_golden(EXAMPLES[case], said)
    assert said["mopl_version"] in mopl("--version").out


def test_artifacts_and_policies_are_described(folder, monkeypatch):
    monkeypatch.chdir(folder)
    said = document(*LEARN.split())
    assert_golden(LEARN, said)
    described(said, "learn")
    described(json.loads((folder / "learnt.json").read_text()), "learn")
    for path in (folder / "learnt.json", *(folder / "ex").glob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), schema("policy"))
