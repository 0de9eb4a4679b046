"""The tail of the chi-square distribution, by scipy, whose import takes a third of jax's."""


def tail(statistic: float, df: int) -> float:
    """P(X > `statistic`) for a chi-square variable with `df` degrees of freedom."""
    from scipy.special import gammaincc  # on demand: few logs ask for it

    return float(gammaincc(0.5 * df, 0.5 * statistic))
