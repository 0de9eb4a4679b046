"""`mopl simulate`: the whole loop on a simulated platform, or on a table of interactions that is
replayed.
"""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import DEVICES, DOCUMENT, flag, option, takes

USERS_A_SECOND = 100_000  # of one core: 124,000 measured (`python -m benchmarks platform`)
EXPERIMENTS = "Past A/B tests to learn a metric from; 0: North Star only."


@takes(
    rounds=option(int, "Rounds of explore, learn, certify, test.", 4),
    explore=option(int, "Users of a round who get randomised weights.", 100_000),
    small=option(int, "Half of them in rounds of so many; 0: all at once.", 512),
    test=option(int, "Users in each arm of the online test.", 50_000),
    experiments=option(int, EXPERIMENTS, 60),
    scale=option(float, "Standard deviation of the exploration.", 0.4),
    alpha=option(float, "Level of certificates and tests.", 0.05),
    plain=flag("No pessimism: maximise the estimate, test it always.", "--plain"),
    replay=option(Path, "Interactions in the KuaiRand layout, replayed instead."),
    slate=option(int, "Items shown of each replayed session.", 5),
    seed=option(int, "Seed; the same seed gives the same numbers.", 0),
    out=option(Path, "Folder for the results.", Path("mopl-simulate")),
    quick=flag("A small run: no past tests, too few users to certify much.", "--quick"),
    device=DEVICES,
    as_json=DOCUMENT,
)
def simulate(plain, out, quick, device, as_json, **settings):
    """The whole loop, simulated: randomise, log, learn, certify, test online.

    Every round explores from the production weights, half of its users in small
    rounds that all teach; the other half certify what these end with, and what
    is certified is tested on fresh users. With --small 0 all explore around
    production at once, and half of them teach, with a pessimistic bound. The
    true gains beside it are known to the simulation alone. Writes
    rounds.parquet, and the past tests as experiments.parquet, for `mopl metric`.
    """
    from mopl_jax.numerics import devices
    from mopl_jax.report import loop_table
    from mopl_jax.simulation import run

    if quick:
        settings |= {"rounds": 2, "explore": 20_000, "test": 10_000, "experiments": 0}
    _announce(**settings)
    mesh = devices.start(device)
    with show.bars(as_json, lasting=True) as advance:
        found = run.simulate(**settings, pessimistic=not plain, out=out, mesh=mesh, advance=advance)
    show.answer(found, as_json, loop_table.show, out)


def _announce(rounds, explore, test, replay, **_):
    """What many users take, before they are simulated; not where they are refused."""
    from mopl_jax.simulation import run

    users = rounds * (explore + 2 * test)
    minutes = users / USERS_A_SECOND / 60
    if replay is None and max(rounds, explore, test) <= run.MOST:
        what = f"{users:,} users in {rounds:,} rounds"
        show.announce(what, minutes, "fewer by --explore and --test")
