"""`mopl example`: something to try every command on."""

import shlex
from pathlib import Path

from mopl_jax.cli.options import flag, float64, option, takes

TRY = """mopl check    {0}/log.toml --time day
mopl evaluate {0}/log.toml --target {0}/target.json
mopl compare  {0}/log.toml logging {0}/target.json
mopl learn    {0}/log.toml --production 1,2,5,0.5 --report {0}/report --out {0}/learnt.json
mopl learn    {0}/log.toml --context country,platform --out {0}/contextual.json
mopl evaluate {0}/log.toml --target {0}/target.json --time time --half-life 7d
mopl evaluate {0}/log.toml --target {0}/target.json --time time --time-feature weekday
mopl draw     {0}/target.json --n 3
mopl plan     --pilot {0}/log.toml --step 0.1
mopl metric   {0}/past.parquet --north-star days
mopl metric   {0}/scorecards.csv --north-star days --out {0}/metric.json
mopl monitor  {0}/running.csv --metric {0}/metric.json --planned 40000
mopl metric   {0}/metric.json --apply {0}/log.parquet --rewarded {0}/rewarded.parquet"""


@takes(
    out=option(Path, "Folder to write into.", Path("mopl-example")),
    force=flag("Write into a folder that has files.", "--force"),
    seed=option(int, "The same seed writes the same files.", 0),
)
def example(out, force, seed):
    """A small log, its logging policy and a target, so that every command can be tried.

    Writes log.parquet (visits of users, four weights, whether the user was
    retained, clicks, shares, days of use, platform, country, time), log.toml, logging.json,
    target.json, production.json, past.parquet and scorecards.csv (past A/B
    tests for mopl metric) and running.csv (one for mopl monitor), and prints
    what to try.
    """
    float64()
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ValueError(f"--out: {out} has files; name a new folder, or write there by --force")
    from mopl_jax.simulation.example import write_example

    for path in write_example(out, seed):
        print(f"written: {path}")
    print(TRY.format(shlex.quote(str(out))))
