"""`mopl simulate`: the whole loop on a simulated platform, or on a table of interactions that is
replayed.
"""

from pathlib import Path
from typing import Annotated

from mopl_jax.cli import show
from mopl_jax.cli.options import Devices, Document, option


def simulate(
    rounds: Annotated[int, option("Rounds of explore, learn, certify, test.")] = 4,
    explore: Annotated[int, option("Users of a round who get randomised weights.")] = 100_000,
    test: Annotated[int, option("Users in each arm of the online test.")] = 50_000,
    experiments: Annotated[
        int, option("Past A/B tests to learn a metric from; 0: North Star only.")
    ] = 60,
    scale: Annotated[float, option("Standard deviation of the exploration.")] = 0.4,
    alpha: Annotated[float, option("Level of certificates and tests.")] = 0.05,
    plain: Annotated[
        bool, option("No pessimism: maximise the estimate, test it always.", "--plain")
    ] = False,
    table: Annotated[
        Path | None, option("Interactions in the KuaiRand layout, replayed instead.", "--replay")
    ] = None,
    slate: Annotated[int, option("Items shown of each replayed session.")] = 5,
    seed: Annotated[int, option("Seed; the same seed gives the same numbers.")] = 0,
    out: Annotated[Path, option("Folder for the results.")] = Path("mopl-simulate"),
    quick: Annotated[
        bool, option("A small run: no past tests, too few users to certify much.", "--quick")
    ] = False,
    device: Devices = None,
    as_json: Document = False,
) -> None:
    """The whole loop, simulated: randomise, log, learn, certify, test online.

    Every round explores around the production weights, learns on half of its
    users with a pessimistic bound, certifies on the other half, and tests what
    is certified on fresh users. The true gains beside it are known to the
    simulation alone. Writes rounds.parquet, and the past tests as
    experiments.parquet, for `mopl metric`.
    """
    from mopl_jax.numerics import devices
    from mopl_jax.report import loop_table
    from mopl_jax.simulation import run

    if quick:
        rounds, explore, test, experiments = 2, 20_000, 10_000, 0
    mesh = devices.start(device)
    with show.bars(as_json, lasting=True) as advance:
        found = run.simulate(
            rounds,
            explore=explore,
            test=test,
            experiments=experiments,
            scale=scale,
            alpha=alpha,
            pessimistic=not plain,
            replay=table,
            slate=slate,
            seed=seed,
            out=out,
            mesh=mesh,
            advance=advance,
        )
    if as_json:
        show.print_json(found.to_dict())
    else:
        loop_table.show(found, out)
