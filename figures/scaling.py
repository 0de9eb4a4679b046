"""Cost of a sweep: time against rows drawn, with the line of slope one."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import results


def draw() -> Figure:
    """Measured seconds as points, proportionality as a line."""
    stored = results("scaling")
    rows, seconds = ([row[key] for row in stored] for key in ("rows", "seconds"))
    slope = np.polyfit(np.log(rows), np.log(seconds), 1)[0]
    figure, ax = plt.subplots(figsize=(4.6, 3.4))
    rate = rows[-1] / seconds[-1]
    ax.plot(
        rows,
        [row / rate for row in rows],
        color="#999999",
        label=f"{rate / 1e6:.0f} million rows a second",
    )
    ax.plot(rows, seconds, "o", color="#0072B2", label=f"measured, slope {slope:.3f}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("logged rows drawn (replicates × largest n)")
    ax.set_ylabel("seconds on 2 cores")
    ax.legend()
    return figure
