"""The figures of a report, each `draw(learnt)` -> figure and caption.

Values are doubly robust on the rows that certify, with the learning rows' surface.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mopl_jax.diagnostics.verdicts import REFUSE_ESS
from mopl_jax.estimators import ess
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import Interval
from mopl_jax.learning.learnt_weights import spread
from mopl_jax.learning.objective import doubly_robust, estimates
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.report.style import literal

BLUE, RED, GREY, GREEN = "#0072B2", "#D55E00", "#999999", "#009E73"
POINTS = 25  # along each weight
REACH = 2.0  # logged standard deviations each side
BANDWIDTHS = np.geomspace(0.15, 1.0, 8)  # of the logged standard deviation
LEVEL = 0.05  # bands: two-sided 95 %
DRAWN = 1e-6  # of the largest: smaller importance weights are counted, not drawn


def _judging(learnt):
    """The rows that judge: those that certify, or all where none were held out."""
    return learnt.logs if learnt.held is None else learnt.held


def _on(learnt):
    """Which rows those are, for captions."""
    if learnt.names.folds or learnt.held is None:
        return "on all rows, which taught the surface too: bands are a little too narrow"
    return "on rows that were not learnt from"


def _weights(learnt):
    """Weights before and after, with the scales that are played, and the best guess."""
    whitening, current, names = learnt.whitening, learnt.production, learnt.names.labels
    figure, ax = plt.subplots(figsize=(6.4, 0.5 * len(names) + 1.3))
    y = np.arange(len(names))
    for policy, colour, label, shift in (
        (whitening, GREY, "logged", -0.16),
        (learnt.policy, RED, "certified", 0.16),
    ):
        look: dict[str, Any] = {
            "fmt": "o",
            "color": colour,
            "capsize": 3,
            "label": f"{label}: mean ± scale played",
        }
        ax.errorbar(np.asarray(policy.mean), y + shift, xerr=spread(policy), **look)
    guess = np.asarray(learnt.proposal.guess.mean)
    ax.plot(guess, y + 0.32, "x", color=RED, markersize=5, label="best guess")
    if current is not None:
        ax.plot(current, y, "D", color="black", markersize=4, label="production")
    ax.set_yticks(y, [literal(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("weight")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    caption = (
        "Bars are the scales that are played, not errors. Crosses: the surface's best guess, which"
        " no rows certify."
    )
    return figure, caption


@jax.jit
def _along(logs, surface, means, scale):
    """Value, interval and ESS of normal policies with these means (m, d) and one scale, and what
    the surface expects of them, with its error.
    """
    value = estimates(logs, doubly_robust(surface))

    def at(mean):
        policy = Gaussian(mean, scale)
        made, expected = value(policy), surface.known(policy)
        return made.value, ess_exact(made, LEVEL), ess.kish(made.log_weight), *expected

    return jax.lax.map(at, means)


def _profiles(learnt):
    """Value along each weight through the learnt mean."""
    whitening, current, names = learnt.whitening, learnt.production, learnt.names.labels
    policy, rows_judged = learnt.middle, _judging(learnt)
    d, columns = len(names), min(len(names), 4)
    rows = math.ceil(d / columns)
    size = (2.6 * columns + 0.6, 2.3 * rows + 0.3)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    marks = [(whitening.mean, GREY, "--", "logged mean"), (policy.mean, RED, "-", "learnt mean")]
    marks += [] if current is None else [(current, "black", ":", "production")]
    for k, (ax, name) in enumerate(zip(axes.flat, names, strict=False)):
        path = _path(whitening, k, [float(mean[k]) for mean, *_ in marks])
        means = jnp.asarray(
            np.where(np.arange(d) == k, path[:, None], np.asarray(policy.mean)), policy.mean.dtype
        )
        found = _along(rows_judged, learnt.surface, means, policy.scale)
        value, band, size, expected, error = jax.device_get(found)
        posterior = expected - 1.96 * error, expected + 1.96 * error
        ax.plot(path, expected, color=GREEN, linewidth=1, linestyle="--", label="by the surface")
        ax.fill_between(path, *posterior, color=GREEN, alpha=0.15, linewidth=0)
        seen = size >= REFUSE_ESS
        value, *ends = (
            np.where(seen & np.isfinite(x), x, np.nan) for x in (value, band.lower, band.upper)
        )
        ax.plot(path, value, color=BLUE, label="value of the normal policy")
        ax.fill_between(path, *ends, color=BLUE, alpha=0.18, linewidth=0, label="95 % band")
        for mean, colour, style, label in marks:
            ax.axvline(float(mean[k]), color=colour, linestyle=style, linewidth=1.2, label=label)
        ax.set_xlabel(literal(name))
    for ax in axes.flat[d:]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"value ({_outcome(learnt)})")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    caption = (
        "Each curve moves one weight and keeps the others at the learnt mean, so all pass the"
        " learnt policy's value at the solid line, and at the other lines only one weight is"
        f" the logged (or production) one. Played with the learnt scale, {_on(learnt)},"
        f" doubly robust; that curve ends where fewer than {REFUSE_ESS:g} effective rows are left."
        " Green: what the surface that learnt expects everywhere, with its 95 % posterior band."
    )
    return figure, caption


def _path(whitening, k, marked):
    """Places along weight k: the logged spread, and whatever is marked."""
    reach = REACH * float(spread(whitening)[k])
    centre = float(whitening.mean[k])
    return np.linspace(min(centre - reach, *marked), max(centre + reach, *marked), POINTS)


def _overlap(learnt):
    """Histogram of the importance weights on the certification rows."""
    w = np.exp(np.asarray(log_weights(learnt.policy, _judging(learnt))))
    size = w.sum() ** 2 / np.square(w).sum()
    figure, ax = plt.subplots(figsize=(6, 3.2))
    drawn = w[w > DRAWN * w.max()]
    ax.hist(
        drawn,
        bins=np.geomspace(drawn.min(), drawn.max() * 1.001, 50).tolist(),
        color=BLUE,
        alpha=0.8,
    )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axvline(1, color="black", linewidth=0.8, linestyle="--", label="as likely as in the log")
    ax.set_xlabel("importance weight of a held-out row")
    ax.set_ylabel("rows")
    ax.legend(loc="upper left", fontsize=8)
    ax.set_title(
        f"ESS {float(size):,.0f} of {len(w):,} rows; mean weight {w.mean():.3f}; largest"
        f" {w.max():.1f}"
    )
    caption = (
        "Right of the line are actions that the learnt policy plays more often than the log"
        " did, left those less often. A few heavy rows mean that few rows decide; the mean"
        f" weight should be near 1. Not drawn: {len(w) - len(drawn):,} rows with less than"
        f" {DRAWN:g} of the largest weight."
    )
    return figure, caption


@jax.jit
def _kernels(logs: Logs, mean, factor, bandwidths) -> tuple[Any, Interval, Any, Any]:
    """SNIPS value, interval, standard error and ESS of the learnt mean smoothed with each
    bandwidth.
    """

    value = estimates(logs)

    def at(bandwidth):
        made = value(Gaussian(mean, factor * bandwidth))
        error = jnp.sqrt(jnp.sum(jnp.square(made.influence / made.influence.shape[0])))
        return made.value, ess_exact(made, LEVEL), error, ess.kish(made.log_weight)

    return jax.lax.map(at, bandwidths)


def _outcome(learnt):
    """What values are of: of a cost the negative, of which more is better."""
    name = literal(learnt.names.reward)
    return f"−{name}" if learnt.names.minimise else name


def _bandwidth(learnt):
    """The learnt mean, played more and more exactly: less smoothing bias, fewer effective rows."""
    policy, whitening = learnt.middle, learnt.whitening
    bandwidths = jnp.asarray(BANDWIDTHS, policy.mean.dtype)
    found = jax.device_get(_kernels(_judging(learnt), policy.mean, whitening.scale, bandwidths))
    value, band, error, size = found
    seen = (size >= REFUSE_ESS) & np.isfinite(band.lower) & np.isfinite(band.upper)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.2))
    h, name = BANDWIDTHS[seen], _outcome(learnt)
    bars = np.abs(np.stack([value - band.lower, band.upper - value]))[:, seen]
    left.errorbar(h, value[seen], bars, fmt="o-", color=BLUE, capsize=3, markersize=4)
    left.set_ylabel(f"value by SNIPS, 95 % ({name})")
    if seen.any():
        middle.plot(
            h,
            np.abs(value[seen] - value[seen][0]),
            "o-",
            color=RED,
            markersize=4,
            label=f"change from {h[0]:.2g}",
        )
        middle.plot(h, error[seen], "s--", color=BLUE, markersize=4, label="standard error")
    middle.set_ylabel(f"bias and noise ({name})")
    right.plot(BANDWIDTHS, size, "o-", color=BLUE, markersize=4)
    right.axhline(REFUSE_ESS, color=GREY, linewidth=0.8, linestyle="--")
    _log_axis(right.yaxis, right.set_yscale)
    right.set_ylabel("effective sample size")
    played = float(np.mean(spread(policy) / spread(whitening)))
    for ax in (left, middle, right):
        ax.axvline(played, color="black", linewidth=0.8, linestyle=":", label="learnt scale")
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks([0.15, 0.3, 0.6, 1.0], ["0.15", "0.3", "0.6", "1"])
        ax.set_xlim(0.14, max(1.07, 1.07 * played))
        ax.set_xlabel("scale of the policy / logged scale")
    middle.legend(fontsize=8)
    caption = (
        f"The dotted line is the scale that was learnt, {played:.2g}. Smaller scales play the"
        " learnt mean more exactly, on fewer effective rows. Middle: the change of the value"
        " from the smallest scale shown is what smoothing costs (with the noise of that"
        " scale), the standard error what it saves. Left and middle leave out scales with"
        f" fewer than {REFUSE_ESS:g} effective rows (dashed line, right)."
    )
    return figure, caption


def _log_axis(axis, set_scale):
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    axis.set_minor_locator(NullLocator())


FIGURES: tuple[tuple[str, str, Any], ...] = (
    ("weights", "Weights before and after", _weights),
    ("value", "Value along each weight", _profiles),
    ("overlap", "Importance weights", _overlap),
    ("bandwidth", "Bias and variance over bandwidth", _bandwidth),
)


def _front(learnt):
    """Gains of the reward over the change of the first guardrail's outcome: estimates, and corners
    that hold at once.
    """
    made, limit = learnt.traded, learnt.guardrails[0]
    outcome = [each.outcomes[limit.name] for each in made]
    figure, ax = plt.subplots(figsize=(6, 3.6))
    x, y = [each.change for each in outcome], [each.gain for each in made]
    low, high = [each.certain for each in outcome], [each.certified_gain for each in made]
    ax.plot(x, y, "o-", color=BLUE, markersize=4, label="estimated")
    ax.plot(low, high, "s--", color=RED, markersize=4, label="certain, all at once")
    ax.axvline(outcome[0].allowed, color="black", linewidth=0.8, linestyle=":", label="allowed")
    ax.set_xlabel(f"change of {literal(limit.name)}")
    ax.set_ylabel(f"{learnt.names.gains[1]} of {literal(learnt.names.reward)}")
    ax.legend(fontsize=8)
    caption = (
        "Each point is a policy, over production with the same scale. The red points are ends of"
        " one-sided bounds that hold for all policies and outcomes at once."
    )
    return figure, caption


def figures_of(learnt: Any) -> tuple[tuple[str, str, Any], ...]:
    """The figures that the learnt weights have data for."""
    more = ("front", "Trading one outcome for the other", _front)
    return (*FIGURES, more) if learnt.front else FIGURES
