"""What was learnt, in words and tables: for the terminal and the page."""

import math

from mopl_jax.learning.learnt_weights import LearntWeights, spread
from mopl_jax.learning.response_surface import CREDIBLE

SEARCH = {
    None: "no scale was accepted: the surface's proposal is kept as it is",
    True: "the last search ended where a step gained nothing",
    False: "the last search ended before a step gained nothing; more --steps may find more",
}


def numbers(learnt: LearntWeights) -> list[tuple[str, str]]:
    """What was found, each number with its name."""
    made, other, mixed = learnt.certificate, learnt.against_production, learnt.mixture
    found = [("optimistic: the bound that learning maximised", learnt.search.bound)]
    if made is not None:
        certified = f"certified: at least, with confidence {1 - learnt.plan.alpha:.4g}"
        found = [
            ("value of the learnt normal policy (held-out rows)", made.value),
            (certified, made.bound),
            *found,
            ("gain over the logging mean, played with the same scale", made.gain),
            ("certified gain: at least", made.gain_bound),
        ]
    if other is not None:
        found += [
            ("gain over production, played with the same scale", other.gain),
            ("certified gain over production: at least", other.gain_bound),
        ]
    if mixed is not None:
        found += [
            ("mixture of the folds' policies: certified", mixed.bound),
            ("mixture of the folds' policies: certified gain", mixed.gain_bound),
        ]
    return [(label, _number(float(value))) for label, value in found] + _size(learnt)


def _size(learnt):
    if learnt.held is None:
        return []
    size = f"{float(learnt.certificate.ess):,.0f} of {len(learnt.held.reward):,}"
    return [("effective sample size on the held-out rows", size)]


def remarks(learnt: LearntWeights) -> list[str]:
    """How it was decided, one line each."""
    lines, known = [], math.isfinite(learnt.surface_p)
    credible = known and learnt.surface_p >= CREDIBLE
    if known:
        decides = "significance" if credible else "the held-out lower bound"
        lines.append(
            f"rewards quadratic towards the maximum: p = {learnt.surface_p:.2g}; {decides} decides"
        )
    by = "" if credible else " by its lower bound"
    for scale, score, accepted in learnt.tried:
        fate = f"accepted{by}" if accepted else "not accepted"
        lines.append(
            f"scale {scale:g}: gain on rows that did not propose it {score:+.1f} standard errors,"
            f" {fate}"
        )
    return [*lines, SEARCH[learnt.converged]]


def _number(value):
    return f"{value:.5g}" if math.isfinite(value) else "none"


def weights_table(learnt: LearntWeights) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the weights before and after."""
    before, after, now = learnt.whitening, learnt.policy, learnt.production
    columns = {"logged mean": before.mean, "± scale": spread(before)}
    if now is not None:
        columns |= {"production": now}
    header = ["weight", *columns, "learnt mean", "± scale"]
    columns = [*columns.values(), after.mean, spread(after)]
    names = learnt.names.objectives
    rows = [[name, *(f"{float(x[k]):.4g}" for x in columns)] for k, name in enumerate(names)]
    return header, rows
