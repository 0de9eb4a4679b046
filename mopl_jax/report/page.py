"""What was learnt, as figures and one self-contained HTML page: data in, files out; figures are
also PNGs.
"""

import base64
import html
from pathlib import Path

import matplotlib.pyplot as plt

from mopl_jax.io.files import write_atomically
from mopl_jax.learning.contextual_weights import ContextualWeights
from mopl_jax.learning.learnt_weights import LearntWeights
from mopl_jax.report import style
from mopl_jax.report.figures import figures_of
from mopl_jax.report.words import (
    front_table,
    guardrails_table,
    numbers,
    personalising,
    remarks,
    segments_table,
    weights_table,
)


def write(folder: Path, made: LearntWeights | ContextualWeights) -> Path:
    """Write `index.html` (images inside) and one PNG a figure into `folder`.

    Of weights by context it has their advice and their segments; all else is of the global weights.
    """
    by_context = isinstance(made, ContextualWeights)
    learnt: LearntWeights = made.learnt if by_context else made
    images = []
    for name, title, draw in figures_of(learnt):
        with plt.rc_context(style.STYLE):
            figure, caption = draw(learnt)
        path = write_atomically(
            folder / f"{name}.png", lambda path, figure=figure: style.save(figure, path)
        )
        encoded = base64.b64encode(path.read_bytes()).decode()
        images.append(
            f"<h2>{title}</h2><img alt='{title}'"
            f" src='data:image/png;base64,{encoded}'><p>{html.escape(caption)}</p>"
        )
    page = _PAGE.format(
        advice=html.escape(made.advice),
        reason=html.escape(made.reason),
        segments=_by_context(made) if by_context else "",
        weights=_table(*weights_table(learnt)),
        numbers=_table(("", "in " + learnt.names.reward + ", or as said"), numbers(learnt)),
        remarks="".join(f"<li>{html.escape(text)}</li>" for text in remarks(learnt)),
        guardrails=_section("What the guardrails allow", *guardrails_table(learnt))
        + _section("Trading one outcome for the other", *front_table(learnt)),
        settings=_table(("how it was made", ""), _settings(learnt)),
        images="\n".join(images),
    )
    return write_atomically(
        folder / "index.html", lambda path: path.write_text(page, encoding="utf-8")
    )


def _settings(learnt):
    made, taught = learnt.names, len(learnt.logs.reward)
    split = f"{made.share:.3g} of the users (rows) certify"
    return [
        ("log", made.log),
        *([("learnt of", made.space.name)] if made.space.name != "weights" else []),
        ("rows learnt from", f"{taught:,}"),
        ("rows that certify", f"{learnt.certifying:,}"),
        ("split", f"{made.folds} folds" if made.folds else split),
        ("seed", str(made.seed)),
        ("estimator", made.estimator),
        ("interval", made.certificate),
        ("confidence", f"{1 - learnt.plan.alpha:.4g}"),
    ]


def _by_context(made):
    """What is changed by context, and a heading for what is global."""
    title = f"By {', '.join(made.columns)}: change from the global weights, and gain"
    gain = f"<p>{html.escape(personalising(made))}</p>" if made.moved else ""
    table = _section(html.escape(title), *segments_table(made))
    return f"{gain}{table}<h2>The global weights: {html.escape(made.learnt.advice)}</h2>"


def _section(title, header, rows):
    """A heading and its table, where that has rows."""
    return f"<h2>{title}</h2>{_table(header, rows)}" if rows else ""


def _table(header, rows):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(header, "th") + "".join(line(row, "td") for row in rows) + "</table>"


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{advice}</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}}
td,th{{padding:.1rem 1.2rem .1rem 0;border-bottom:1px solid #ddd;text-align:left}}
p{{color:#444}}</style>
<h1>{advice}</h1><p><b>{reason}</b></p>
{segments}
{weights}
{guardrails}
<h2>What it is worth</h2>{numbers}
<p>Bounds are for the policy with the certified mean and scale, on rows that did not teach it,
one-sided; with guardrails all hold at once. Gains compare means played with one scale. The best
guess has no bound.</p>
<h2>Two answers</h2><ul>{remarks}</ul>{settings}
{images}</html>
"""
