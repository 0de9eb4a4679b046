"""What was learnt, as figures and one self-contained HTML page: data in, files out; figures are
also PNGs.
"""

import base64
import html
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mopl_jax.io.files import write_atomically
from mopl_jax.learning.refinement import CREDIBLE
from mopl_jax.report import style
from mopl_jax.report.figures import FIGURES, spread


def write(folder: Path, outcome: dict[str, Any], about: dict[str, Any]) -> Path:
    """Write `index.html` (images inside) and one PNG a figure into `folder`; `about` as in the
    artifact.
    """
    images = []
    for name, title, draw in FIGURES:
        with plt.rc_context(style.STYLE):
            figure, caption = draw(outcome, about)
        path = write_atomically(
            folder / f"{name}.png", lambda path, figure=figure: style.save(figure, path)
        )
        encoded = base64.b64encode(path.read_bytes()).decode()
        images.append(
            f"<h2>{title}</h2><img alt='{title}'"
            f" src='data:image/png;base64,{encoded}'><p>{html.escape(caption)}</p>"
        )
    page = _PAGE.format(
        advice=html.escape(about["advice"]),
        reason=html.escape(about["reason"]),
        weights=_table(*_weights_table(outcome, about)),
        numbers=_table(("", "in " + about["reward"] + ", or as said"), numbers(about)),
        remarks="".join(f"<li>{html.escape(text)}</li>" for text in remarks(about)),
        settings=_table(("how it was made", ""), _settings(about)),
        images="\n".join(images),
    )
    return write_atomically(
        folder / "index.html", lambda path: path.write_text(page, encoding="utf-8")
    )


# What was found, in words: for the page and the terminal.


def numbers(about: dict[str, Any]) -> list[tuple[str, str]]:
    """What was found, each with its name."""
    found = [
        ("value of the learnt normal policy (held-out rows)", about["value"]),
        (
            f"certified: at least, with confidence {1 - about['alpha']:.4g}",
            about["certified_lower_bound"],
        ),
        ("optimistic: the bound that learning maximised", about["optimistic_lower_bound"]),
        ("gain over the logging mean, played with the same scale", about["gain"]),
        ("certified gain: at least", about["certified_gain"]),
        ("gain over production, played with the same scale", about.get("gain_over_production")),
        ("certified gain over production: at least", about.get("certified_gain_over_production")),
        (
            "mixture of the folds' policies: certified",
            about.get("mixture", {}).get("certified_lower_bound"),
        ),
        (
            "mixture of the folds' policies: certified gain",
            about.get("mixture", {}).get("certified_gain"),
        ),
    ]
    shown = [(label, _number(value)) for label, value in found if value is not None]
    return [
        *shown,
        (
            "effective sample size on the held-out rows",
            f"{about['ess']:,.0f} of {about['rows']['certification']:,}",
        ),
    ]


def remarks(about: dict[str, Any]) -> list[str]:
    """How it was decided, one line each."""
    lines = []
    if about["surface_p"] is not None:
        decides = "significance" if about["surface_p"] >= CREDIBLE else "the held-out lower bound"
        lines.append(
            f"rewards quadratic towards the maximum: p = {about['surface_p']:.2g}; {decides}"
            " decides"
        )
    by = "" if (about["surface_p"] or 0) >= CREDIBLE else " by its lower bound"
    for step in about["scales"]:
        fate = f"accepted{by}" if step["accepted"] else "not accepted"
        lines.append(
            f"scale {step['scale']:g}: gain on rows that did not propose it {step['score']:+.1f}"
            f" standard errors, {fate}"
        )
    return [*lines, _SEARCH[about["converged"]]]


_SEARCH = {
    None: "no scale was accepted: the surface's proposal is kept as it is",
    True: "the last search ended where a step gained nothing",
    False: "the last search ended before a step gained nothing; more --steps may find more",
}


def _number(value):
    return f"{value:.5g}" if math.isfinite(value) else "none"


def _weights_table(outcome, about):
    """Header and rows of the weights before and after."""
    learnt, whitening, current = outcome["learnt"].policy, outcome["whitening"], outcome["current"]
    now = [] if current is None else [current]
    columns = [whitening.mean, spread(whitening), *now, learnt.mean, spread(learnt)]
    header = (
        "weight",
        "logged mean",
        "± scale",
        *(["production"] if now else []),
        "learnt mean",
        "± scale",
    )
    return header, [
        (name, *(f"{float(column[k]):.4g}" for column in columns))
        for k, name in enumerate(about["objectives"])
    ]


def _settings(about):
    made = about["provenance"]
    return [
        ("log", made["log"]),
        ("rows learnt from", f"{about['rows']['learning']:,}"),
        ("rows that certify", f"{about['rows']['certification']:,}"),
        (
            "split",
            (
                f"{made['folds']} folds"
                if made["folds"]
                else f"{made['share']:g} of the users (rows) certify"
            ),
        ),
        ("seed", str(made["seed"])),
        ("estimator", about["estimator"]),
        ("interval maximised, interval certified", f"{about['interval']}, {made['certificate']}"),
        ("confidence", f"{1 - about['alpha']:.4g}"),
    ]


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
{weights}
<h2>What it is worth</h2>{numbers}
<p>Bounds are for the normal policy with the learnt mean and scale, on rows that were not learnt
from, one-sided. Gains compare means played with one scale. The optimistic bound is that of the
rows that chose the policy; it promises nothing.</p>
<h2>How it was decided</h2><ul>{remarks}</ul>{settings}
{images}</html>
"""
