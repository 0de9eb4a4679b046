"""What was learnt, in words and tables: for the terminal and the page."""

import math
from typing import Any

import numpy as np

from mopl_jax.learning.chosen_arm import ChosenArm
from mopl_jax.learning.contextual_weights import ContextualWeights, labelled
from mopl_jax.learning.learnt_weights import LearntWeights, spread
from mopl_jax.learning.space import WEIGHTS
from mopl_jax.report import terminal

NEAR = 1e-6  # scales: rounding


def numbers(learnt: LearntWeights) -> list[tuple[str, str]]:
    """What was found, each number with its name."""
    made, other = learnt.certificate, learnt.against_production
    found: list[tuple[str, Any]] = []
    noun = learnt.names.gains[1]
    most, sign = ("most", -1) if learnt.names.minimise else ("least", 1)
    if made is not None:
        certified = f"certified: at {most}, with confidence {1 - learnt.plan.alpha:.4g}"
        found = [
            (f"value of the certified policy ({_which(learnt)})", sign * made.value),
            (certified, sign * made.bound),
            (f"{noun} over the logging mean, played with the same scale", made.gain),
            (f"certified {noun}: at least", made.gain_bound),
        ]
    if other is not None:
        found += [
            (f"{noun} over production, played with the same scale", other.gain),
            (f"certified {noun} over production: at least", other.gain_bound),
        ]
    if learnt.in_log is not None:
        found += [
            (f"{noun} in the whole log, each row alike", learnt.in_log.gain),
            (f"certified {noun} in the whole log: at least", learnt.in_log.gain_bound),
        ]
    return [(label, _number(float(value))) for label, value in found] + _size(learnt)


def _size(learnt):
    if learnt.certificate is None:
        return []
    who = "rows" if learnt.logs.cluster is None else "users"
    size = f"{float(learnt.certificate.ess):,.0f} of {int(learnt.certificate.units):,} {who}"
    return [(f"effective sample size ({_which(learnt)})", size)]


def _which(learnt):
    """The rows that certify, in words."""
    if _in_passes(learnt):
        return "all other rows"
    return f"{learnt.names.folds} folds" if learnt.names.folds else "held-out rows"


def _in_passes(learnt):
    """Whether rows certify that are not held."""
    return learnt.certifying > 0 and learnt.held is None


def remarks(learnt: LearntWeights) -> list[str]:
    """What is predicted of both answers and how they differ, one line each."""
    made, noun = learnt.proposal, learnt.names.gains[1]
    scale, apart = (float(np.mean(x)) for x in _whitened(learnt))
    refused, next_round = [], [exploration(learnt)]
    if learnt.verdict == "refuse":
        refused = ["the log is refused: what a surface makes of it is not to be used either"]
        next_round = []
    sampled = f"a sample of {len(learnt.logs.reward):,} rows taught; all others certify, in passes"
    lines = refused + [sampled] * _in_passes(learnt)
    lines += [
        "best guess: the current weights"
        if float(made.guessed.gain) == 0
        else f"best guess: the surface expects a {noun} of {_plus(made.guessed)}, played with its"
        " scale; no rows confirm it",
    ]
    binds = [
        f"the guardrail {each} binds: without it more could be promised" for each in learnt.binding
    ]
    if float(made.promised.gain) == 0:
        none = f"certified policy: none that these rows are expected to confirm a {noun} of"
        return [*lines, none, *binds, *next_round]
    lines.append(
        f"certified policy: the surface expects a {noun} of {_plus(made.promised)}, and the"
        f" rows that certify leave about ± {float(made.promised.noise):.3g}"
    )
    lines += binds
    if learnt.names.space != WEIGHTS:
        lines.append(_in_weights(learnt))
    if apart < 0.1:
        return [*lines, "both means are nearly the same", *next_round]
    if refused:
        return lines
    return [
        *lines,
        f"they are {apart:.2g} logged standard deviations apart: what is certified is played at"
        f" {scale:.2g} of the logged scale and stays where these rows can confirm a {noun}; play"
        " the best guess in an experiment",
        *next_round,
    ]


def _in_weights(learnt):
    """What both means play, where they are not weights."""
    each = (learnt.proposal.guess, learnt.policy)
    guess, certified = (learnt.names.space.weights(np.asarray(x.mean)) for x in each)
    pairs = zip(learnt.names.objectives, guess, certified, strict=True)
    played = ", ".join(f"{name} {best:.3g} and {sure:.3g}" for name, best, sure in pairs)
    return (
        f"in weights, the means of best guess and certified policy: {played}; serve them with"
        " their spread, for which alone the gains are meant"
    )


def exploration(learnt: LearntWeights, name: str = "the learnt weights") -> str:
    """What as many rows more are worth, by the policy that is proposed and by this log's, over the
    current weights or those of this `name`.
    """
    made, noun = learnt.exploration, learnt.names.gains[1]
    over = "the current weights" if learnt.keep else name
    means, scales = np.asarray(made.policy.mean), spread(made.policy)
    if _is_repeated(learnt):
        return (
            "to explore with next: this log's policy again (explore_next of the artifact); as many"
            f" rows again are expected to certify a {noun} of {float(made.repeated):.3g} over"
            f" {over}, and nothing else that was tried more{_unbound(learnt)}"
        )
    each = zip(learnt.names.labels, means, scales, strict=True)
    played = ", ".join(f"{name} {mean:.3g} ± {scale:.2g}" for name, mean, scale in each)
    return (
        f"to explore with next: {played} (explore_next of the artifact, itself a policy); as many"
        f" rows again are expected to certify a {noun} of {float(made.worth):.3g} over {over},"
        f" those of this log's policy {_repeated(made)}, by which to rank them: half to"
        " two thirds of what was expected was found where that was tried"
        f"{_unbound(learnt)}"
    )


def _repeated(made):
    """What the rows of the log's own policy would certify: of less than a thousandth nothing."""
    again, worth = float(made.repeated), float(made.worth)
    return f"{again:.3g}" if again > 1e-3 * worth else "nothing"


def _is_repeated(learnt):
    """Whether what is proposed to explore with is what the log was explored with."""
    proposed, last = learnt.exploration.policy, learnt.whitening
    scale = spread(last)
    apart = (
        np.abs(np.asarray(proposed.mean) - np.asarray(last.mean)),
        np.abs(spread(proposed) - scale),
    )
    return all((gap <= NEAR * scale).all() for gap in apart)


def forbidden(share: float) -> list[str]:
    """A warning of the share of the policy's draws that constraints forbid, if any."""
    if share == 0:
        return []
    return [
        f"warning: {share:.0%} of the policy's draws are outside the constraints, which bind its"
        " mean: clip what is served, or play a smaller scale"
    ]


def _unbound(learnt):
    """What does not bind what is explored."""
    share = learnt.explored_outside
    outside = f"; {share:.0%} of its draws are outside the constraints" if share > 0 else ""
    return outside + ("; guardrails do not bind it" if learnt.guardrails else "")


def _plus(promise):
    return f"{float(promise.gain):.3g} ± {float(promise.error):.3g}"


def _whitened(learnt):
    """The certified scale over the logged one, and the distance of both means in logged units."""
    made, policy = learnt.proposal, learnt.policy
    factor = np.asarray(made.whitening.scale)
    gap = np.linalg.solve(factor, np.asarray(made.guess.mean) - np.asarray(policy.mean))
    return spread(policy) / spread(made.whitening), np.linalg.norm(gap)


def guardrails_table(learnt: LearntWeights | ChosenArm) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what other outcomes may lose, what they certainly do, and which of them
    costs gain.
    """
    header = ["guardrail", "now", "change", "certain", "allowed", "holds", "gain without"]
    return header, [_guardrail(each) for each in learnt.judged_guardrails]


def _guardrail(each):
    without = f"{each.promised_without:.3g}" if each.binds else "no more"
    made = each.change
    if made is None:
        return [each.guardrail, *["unknown"] * 5, without]
    least = "≥" if each.guardrail.rpartition(":")[2].startswith("-") else "≤"
    numbers = [f"{made.production:.3g}", f"{made.change:.3g}"]
    numbers += [f"{least} {made.certain:.3g}", f"{least} {made.allowed:.3g}"]
    return [each.guardrail, *numbers, "yes" if each.holds else "no", without]


def front_table(learnt: LearntWeights) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the policies that trade one outcome for the reward: what each gains, and
    what is certain of it.
    """
    names = [learnt.names.reward, *(each.name for each in learnt.guardrails)]
    header = ["policy", *(text for name in names for text in (name, "certain"))]
    rows = [[each.gain, each.certified_gain, *_outcomes(each)] for each in learnt.traded]
    return header, [[str(k + 1), *(f"{x:.3g}" for x in row)] for k, row in enumerate(rows)]


def _outcomes(each):
    return [x for made in each.outcomes.values() for x in (made.change, made.certain)]


def segments_table(made: ContextualWeights) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what each segment changes of the global weights, and gains."""
    noun = made.learnt.names.gains[1]
    header = ["segment", "rows", *made.learnt.names.labels, noun, "at least", "at most"]
    return header, [_segment(each) for each in made.segments]


def _segment(each):
    change = (f"{x:+.3g}" for x in each.change)
    ends = (terminal.number(x) for x in (each.gain, each.lower, each.upper))
    return [labelled(each), terminal.share(each.share), *change, *ends]


def personalising(made: ContextualWeights) -> str:
    """The gain of personalising with its interval."""
    lower, upper = made.interval
    return (
        f"gain of personalising over the global means played with one scale:"
        f" {float(made.over_global.gain):.4g}, with confidence {1 - made.learnt.plan.alpha:.4g}"
        f" between {lower:.4g} and {upper:.4g}"
    )


def _number(value):
    return f"{value:.5g}" if math.isfinite(value) else "none"


def weights_table(learnt: LearntWeights) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the weights before and after."""
    before, after, now = learnt.whitening, learnt.policy, learnt.production
    columns = {"logged mean": before.mean, "± scale": spread(before)}
    if now is not None:
        columns |= {"production": now}
    header = ["weight", *columns, "best guess", "certified mean", "± scale"]
    columns = [*columns.values(), learnt.proposal.guess.mean, after.mean, spread(after)]
    names = learnt.names.labels
    rows = [[name, *(f"{float(x[k]):.4g}" for x in columns)] for k, name in enumerate(names)]
    return header, rows
