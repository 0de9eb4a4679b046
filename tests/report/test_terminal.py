"""Numbers on the screen: as many decimals as their interval tells."""

import math

import pytest

from mopl_jax.report.terminal import form_of, number


@pytest.mark.parametrize(
    ("ends", "value", "said"),
    [
        ([(0.4154, 0.43217)], 0.423771, "0.4238"),  # ± 0.0084
        ([(0.4154, 0.43217)], 0.4, "0.4000"),
        ([(0.4154, 0.43217), (0.4, 0.9)], 0.423771, "0.4238"),  # the narrowest one tells
        ([(10.2, 31.7)], 20.96, "21"),  # ± 10.75
        ([(1.2, 3.7)], 2.449, "2.4"),  # ± 1.25
        ([(-math.inf, math.inf), (1.2, 3.7)], 2.449, "2.4"),
        ([(-math.inf, math.inf)], 0.423771, "0.4238"),
        ([(0.5, 0.5)], 0.5, "0.5"),
        ([(math.nan, math.nan)], 0.25, "0.25"),
        ([(1e6, 1.4e6)], 1234567.0, "1.235e+06"),  # ± 200,000: no decimal
        ([(0.1, 0.1 + 1e-12)], 0.1, "0.1"),
    ],
)
def test_decimals_are_those_that_the_width_tells(ends, value, said):
    assert number(value, form_of(*ends)) == said
