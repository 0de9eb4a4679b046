"""What was learnt, as figures and one self-contained HTML page: data in, files out; figures are also PNGs."""

import base64
import html
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from mopl_jax import ess, plots
from mopl_jax.estimators import snips
from mopl_jax.intervals import Interval, ess_exact
from mopl_jax.learning import robust
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Gaussian
from mopl_jax.storage import write_atomically

BLUE, RED, GREY = "#0072B2", "#D55E00", "#999999"
POINTS = 25  # along each weight
REACH = 2.0  # logged standard deviations each side
BANDWIDTHS = np.geomspace(0.15, 1.0, 8)  # of the logged standard deviation
LEVEL = 0.05  # bands: two-sided 95 %


def write(folder: Path, outcome: dict[str, Any], names: list[str], about: dict[str, Any]) -> Path:
    """Write `index.html` (images inside) and one PNG a figure into `folder`."""
    images = []
    for name, title, caption, draw in FIGURES:
        with plt.rc_context(plots.STYLE):
            figure = draw(outcome, names)
        path = write_atomically(folder / f"{name}.png", lambda path, figure=figure: plots.save(figure, path))
        encoded = base64.b64encode(path.read_bytes()).decode()
        images.append(f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{encoded}'><p>{caption}</p>")
    page = _PAGE.format(advice=html.escape(about["advice"]), facts=_facts(about), images="\n".join(images))
    return write_atomically(folder / "index.html", lambda path: path.write_text(page, encoding="utf-8"))


def _facts(about):
    shown = {key: value for key, value in about.items() if not isinstance(value, dict | list) and value is not None}
    rows = "".join(
        f"<tr><td>{html.escape(key.replace('_', ' '))}</td><td>{_text(value)}</td></tr>" for key, value in shown.items()
    )
    return f"<table>{rows}</table>"


def _text(value):
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Learnt weights</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%}}
td{{padding:.1rem 1.2rem .1rem 0;border-bottom:1px solid #ddd}}p{{color:#444}}</style>
<h1>Learnt weights: {advice}</h1>{facts}
{images}</html>
"""


# The figures. Values are doubly robust on the certification rows, with the surface of the learning rows.


@jax.jit
def _along(logs, surface, means, scale):
    """Value and interval of normal policies with these means (m, d) and one scale."""
    value = robust(surface)(logs)

    def at(mean):
        made = value(Gaussian(mean, scale))
        return made.value, ess_exact(made, LEVEL)

    return jax.lax.map(at, means)


def _profiles(outcome, names):
    """Value along each weight through the learnt mean."""
    learnt, frame = outcome["learnt"].policy, outcome["frame"]
    spread, d = np.sqrt(np.diagonal(np.asarray(frame.covariance))), len(names)
    columns = min(d, 4)
    figure, axes = plt.subplots(
        -(-d // columns),
        columns,
        figsize=(2.6 * columns + 0.6, 2.3 * -(-d // columns) + 0.3),
        squeeze=False,
        sharey=True,
    )
    low, high = [], []
    for k, (ax, name) in enumerate(zip(axes.flat, names, strict=False)):
        path = np.asarray(frame.mean)[k] + spread[k] * np.linspace(-REACH, REACH, POINTS)
        means = jnp.asarray(np.where(np.arange(d) == k, path[:, None], np.asarray(learnt.mean)), learnt.mean.dtype)
        value, band = jax.device_get(_along(outcome["held"], outcome["surface"], means, learnt.scale))
        ax.plot(path, value, color=BLUE, label="value of the normal policy")
        ends = [np.where(np.isfinite(end), end, np.nan) for end in (band.lower, band.upper)]
        ax.fill_between(path, *ends, color=BLUE, alpha=0.18, linewidth=0, label="95 % band")
        low.append(value - (value - ends[0]))
        high.append(value)
        ax.axvline(frame.mean[k], color=GREY, linestyle="--", linewidth=1, label="logged mean")
        ax.axvline(learnt.mean[k], color=RED, linewidth=1, label="learnt mean")
        ax.set_xlabel(name)
    for ax in axes.flat[d:]:
        ax.set_visible(False)
    centre, spread_of = np.nanmedian(high), np.nanmax(high) - np.nanmin(low)
    axes[0, 0].set_ylim(max(np.nanmin(low), centre - spread_of), None)
    for ax in axes[:, 0]:
        ax.set_ylabel("value (reward units)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _weights(outcome, names):
    """Weights before and after, with the scales that are played."""
    learnt, frame, current = outcome["learnt"].policy, outcome["frame"], outcome["current"]
    figure, ax = plt.subplots(figsize=(6.4, 0.42 * len(names) + 1.3))
    y = np.arange(len(names))
    for policy, colour, label, shift in ((frame, GREY, "logged", -0.12), (learnt, RED, "learnt", 0.12)):
        error = np.sqrt(np.diagonal(np.asarray(policy.covariance)))
        ax.errorbar(
            np.asarray(policy.mean),
            y + shift,
            xerr=error,
            fmt="o",
            color=colour,
            capsize=3,
            label=f"{label}: mean ± scale played",
        )
    if current is not None:
        ax.plot(current, y, "D", color="black", markersize=4, label="production")
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlabel("weight")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _overlap(outcome, names):
    """Histogram of the importance weights on the certification rows."""
    made = outcome["certificate"]
    w = np.exp(np.asarray(log_weights(outcome["learnt"].policy, outcome["held"])))
    figure, ax = plt.subplots(figsize=(6, 3.2))
    positive = w[w > 1e-6]
    ax.hist(positive, bins=np.geomspace(positive.min(), positive.max() * 1.001, 50).tolist(), color=BLUE, alpha=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axvline(1, color="black", linewidth=0.8, linestyle="--")
    ax.set_xlabel("importance weight of a held-out row")
    ax.set_ylabel("rows")
    ax.set_title(f"ESS {float(made.ess):,.0f} of {len(w):,} rows; mean weight {w.mean():.3f}; largest {w.max():.1f}")
    return figure


def _trace(outcome, names):
    """The maximised bound from step to step, beside what held-out rows say."""
    learnt, made = outcome["learnt"], outcome["certificate"]
    trace = np.asarray(learnt.trace)
    trace = trace[np.isfinite(trace)]
    figure, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(np.arange(1, len(trace) + 1), trace, "o-", color=BLUE, markersize=4, label="bound that learning maximises")
    for value, colour, style, label in (
        (learnt.value, BLUE, ":", "its value on the learning rows"),
        (made.value, RED, ":", "value on the held-out rows"),
        (made.bound, RED, "-", "certified bound"),
    ):
        ax.axhline(float(value), color=colour, linestyle=style, linewidth=1.2, label=label)
    ax.set_xlabel("step of the last search")
    ax.set_ylabel("reward units")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


@jax.jit
def _kernels(logs: Logs, mean, factor, bandwidths) -> tuple[Any, Interval, Any]:
    """SNIPS value, interval and ESS of the learnt mean smoothed with each bandwidth."""

    def at(bandwidth):
        made = snips(log_weights(Gaussian(mean, factor * bandwidth), logs), logs.reward)
        return made.value, ess_exact(made, LEVEL), ess.kish(made.log_weight)

    return jax.lax.map(at, bandwidths)


def _bandwidth(outcome, names):
    """The learnt mean, played more and more exactly: less smoothing bias, fewer effective rows."""
    learnt, frame = outcome["learnt"].policy, outcome["frame"]
    bandwidths = jnp.asarray(BANDWIDTHS, learnt.mean.dtype)
    value, band, size = jax.device_get(_kernels(outcome["held"], learnt.mean, frame.scale, bandwidths))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    error = np.abs(np.stack([value - band.lower, band.upper - value]))
    seen = np.isfinite(error).all(axis=0)
    left.errorbar(BANDWIDTHS[seen], value[seen], error[:, seen], fmt="o-", color=BLUE, capsize=3, markersize=4)
    left.set_ylabel("value by SNIPS, 95 % (reward units)")
    right.plot(BANDWIDTHS, size, "o-", color=RED, markersize=4)
    right.set_yscale("log")
    right.set_ylabel("effective sample size")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks([0.15, 0.3, 0.6, 1.0], ["0.15", "0.3", "0.6", "1"])
        ax.set_xlabel("scale of the policy / logged scale")
    return figure


FIGURES: tuple[tuple[str, str, str, Any], ...] = (
    ("weights", "Weights before and after", "Bars are the scales that are played, not errors.", _weights),
    (
        "value",
        "Value along each weight",
        "Through the learnt mean, on rows that were not learnt from; doubly robust.",
        _profiles,
    ),
    ("overlap", "Importance weights", "A few heavy rows mean that few rows decide.", _overlap),
    (
        "trace",
        "The search",
        "The gap between the maximised and the certified bound is the winner's curse and the noise of two halves.",
        _trace,
    ),
    (
        "bandwidth",
        "Bias and variance over bandwidth",
        "Smaller scales play the learnt mean more exactly, on fewer effective rows.",
        _bandwidth,
    ),
)
