"""A simulated loop as it is printed: the weights that it came to first, then its rounds."""

from pathlib import Path

from mopl_jax.report import terminal
from mopl_jax.report.terminal import count, number
from mopl_jax.simulation.run import Simulation

FEW = 100  # past tests, below which a metric has been seen to mislead (docs/system.md)
HEADERS = ("round", "users", "ESS", "gain", "bound", "p", "p {north}", "decision", "true")


def show(found: Simulation, folder: Path) -> None:
    """The weights now, a line for each round, and what the columns are."""
    out, last, north = terminal.console(), found.rounds[-1], found.signals[-1]
    weights = zip(found.objectives, last.done.production, strict=True)
    out.print("weights now: " + ", ".join(f"{weight:.2f} {name}" for name, weight in weights))
    headers = (header.format(north=north) for header in HEADERS)
    out.print(terminal.filled(headers, map(_cells, found.rounds)))
    if found.metric is not None:
        out.print(_metric_line(found))
    out.print(
        "users: spent by the rounds, past tests apart · gain, bound: of the proposal by"
        " certificate, in the reward learnt from · online: p-values of the test, of the reward and"
        f" of {north} · true: gain in {north} over the first weights, known to the simulation"
        f" alone (± {last.true_gain_se:.4f})",
        style="dim",
    )
    out.print(f"{found.provenance['seconds']:.0f} s. Written: {folder}/rounds.parquet")


def _metric_line(found):
    pairs = sorted(zip(found.metric, found.signals, strict=True), key=lambda pair: -abs(pair[0]))
    told = ", ".join(f"{weight:+.2f} {name}" for weight, name in pairs if abs(weight) > 0.005)
    study = found.provenance["study"]
    past = study["experiments"]
    few = "; so few may mislead" if past < FEW else ""
    rule = f"adopted by the rule that would have earned most on them: {study['rule']}"
    return terminal.headed(
        "learnt metric", f" (proxy, from {past} past tests{few}): {told}; {rule}\n"
    )


def _cells(played):
    done = played.done
    tested = "test: keep" if done.p is not None else "keep"
    return (
        str(played.number),
        count(done.users),
        count(done.ess),
        f"{done.gain:.4f}",
        f"{done.bound:.4f}",
        *(number(p, "{:.2g}", unknown="") for p in (done.p, done.north_p)),
        "adopt" if done.adopted else tested,
        f"{played.true_gain:+.4f}",
    )
