"""Wilson's score interval for a share, of floats, numpy and traced arrays alike."""


def wilson_ends(share, size, quantile):
    """The roots V of |share − V| = quantile √(V(1−V)/size), the ends of Wilson's interval (1927).

    (v + q²/2m ± q √(v(1−v)/m + q²/4m²)) / (1 + q²/m) for a share v of m trials, in [0, 1].
    Written with q²/m alone, which is finite where m is too large for its square.
    """
    square = quantile**2 / size
    centre = (share + square / 2) / (1 + square)
    half = (square * share * (1 - share) + square**2 / 4) ** 0.5 / (1 + square)
    return centre - half, centre + half
