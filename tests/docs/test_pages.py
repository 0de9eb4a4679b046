"""Every code block of the documents runs, page by page from top to bottom in one folder.

`sh`: lines that begin with `mopl` are commands; other lines install, as continuous integration does
`text`: lines of what the last command printed, `…` for what is left out
`python`: one after the other, with the names of those before
a block with a title is a file of that name; blocks without a language are not for running
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import mopl
from scipy import stats

from mopl_jax.cli.app import COMMANDS, command
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(rf"\bmopl ({'|'.join(COMMANDS)})\b([^`\n#]*)")  # and what follows in its line
MEAN, NAMES = [0.2, 0.5, 0.1, 0.3], ["w_click", "w_like", "w_share", "w_watch"]


def blocks(page):
    """Language, title and text of each block of a page."""
    return BLOCK.findall(page.read_text())


WITH_BLOCKS = [page for page in PAGES if blocks(page)]
# in the nightly form; what they show is shown by the others as well
LONG = ("README", "agents", "choose-interval", "plan-exploration", "python", "read-the-report")
LONG += ("scaling", "guardrails", "contextual")
CASES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.nightly] if page.stem in LONG else [])
    for page in WITH_BLOCKS
]

LEARNT = "learnt.json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a page is tried: with a log and a learnt policy of the names that pages use."""
    rng = np.random.default_rng(0)
    action = rng.normal(MEAN, 0.15, (3000, 4))
    columns = dict(zip(NAMES, action.T, strict=True)) | {
        "log_propensity": stats.norm.logpdf(action, MEAN, 0.15).sum(axis=1),
        "reward": action.sum(axis=1) + 0.3 * rng.normal(size=3000),
        "retained": (rng.random(3000) < np.clip(action.sum(axis=1) - 0.5, 0, 1)).astype(int),
        "user": np.arange(3000) // 2,
    }
    for name in ("week.parquet", "log.parquet"):
        pq.write_table(pa.table(columns), tmp_path / name)
    policy = Gaussian.diagonal(MEAN, 0.15)
    for name in ("logging.json", LEARNT):
        write_policy(tmp_path / name, policy, objectives=NAMES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", CASES)
def test_every_block_of_a_page_runs(page, folder):
    names, printed = {}, ""
    if "mopl learn" in page.read_text():
        (folder / LEARNT).unlink()  # the page writes its own
    found = blocks(page)
    for k, (language, title, text) in enumerate(found):
        if title:
            (folder / title).write_text(text)
        elif language == "sh":
            printed = run(text, found[k + 1][2] if found[k + 1 : k + 2] else "")
        elif language == "text":
            assert_printed(text, printed)
        elif language == "python":
            exec(compile(text, f"{page.name}, block {k + 1}", "exec"), names)  # noqa: S102


def run(text, shown):
    """What the commands of a block print; their exit code is that of the verdict shown."""
    printed = []
    for line in text.splitlines():
        if line.startswith("mopl "):
            ended = mopl(*shlex.split(line)[1:])
            assert ended.code == (3 if "verdict: refuse" in shown else 0), ended
            printed.append(ended.out)
    return "".join(printed)


def assert_printed(text, printed):
    """Each line stands in what was printed, whatever breaks its lines."""
    words = " ".join(printed.split())
    for line in text.splitlines():
        parts = [" ".join(part.split()) for part in line.split("…")]
        assert re.search(".*".join(map(re.escape, parts)), words), f"{line!r} not in {words}"


def test_options_that_are_shown_exist():
    """Also in listings that are not for running."""
    lines = [line for page in PAGES for line in COMMAND.findall(page.read_text())]
    assert len(lines) > 40
    for name, rest in lines:
        known = {option for one in command(name).params for option in one.opts}
        assert set(re.findall(r"(?<!\S)--[a-z0-9-]+", rest)) <= known | {"--help"}, (name, rest)
