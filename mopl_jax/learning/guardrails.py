"""Guardrails: outcomes beside the North Star that may not get worse by more than is allowed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Scalar

FORM = "expected NAME:-0.5% (may fall by at most) or NAME:+1% (may rise by at most)"


class Guardrail(NamedTuple):
    """What an outcome may lose against production.

    `name`: of its column
    `sign`: 1 where it may fall, −1 where it may rise by at most
    `allowed`: by how much, ≥ 0: a share of production's value if `relative`, or in its own unit
    """

    name: str
    sign: int
    allowed: float
    relative: bool

    def __str__(self) -> str:
        size = f"{100 * self.allowed:g}%" if self.relative else f"{self.allowed:g}"
        return f"{self.name}:{'-' if self.sign > 0 else '+'}{size}"


def guardrail(text: str) -> Guardrail:
    """The guardrail of a text as revenue:-0.5%; ValueError in one line for another form."""
    name, colon, limit = text.rpartition(":")
    size = limit[1:].removesuffix("%")
    try:
        allowed = float(size)
    except ValueError:
        allowed = np.nan
    if not (colon and name and limit[:1] in ("-", "+") and 0 <= allowed < np.inf):
        raise ValueError(f"guardrail: {FORM}, got {text!r}")
    relative = limit.endswith("%")
    return Guardrail(
        name, 1 if limit[0] == "-" else -1, allowed / 100 if relative else allowed, relative
    )


@pytree_dataclass()
class Guarded:
    """The outcomes of g guardrails on the rows of a log, signed so that more is better.

    `outcome` (g, n)
    `allowed` (g,), `relative` (g,): what each may lose, a share of production's value where 1
    """

    outcome: Float[Array, "g n"]
    allowed: Float[Array, " g"]
    relative: Float[Array, " g"]

    @classmethod
    def of(cls, guardrails: Sequence[Guardrail], outcomes: Sequence[ArrayLike]) -> "Guarded":
        """Of as many `outcomes` (n,) as there are guardrails."""
        signs = np.array([each.sign for each in guardrails], float)
        return cls(
            jnp.asarray(signs[:, None] * np.asarray(outcomes, float)),
            jnp.asarray([each.allowed for each in guardrails], float),
            jnp.asarray([each.relative for each in guardrails], float),
        )

    def rows(self, index: Any) -> "Guarded":
        """The outcomes of the rows at `index`."""
        return Guarded(self.outcome[:, index], self.allowed, self.relative)


def room(allowed: Scalar | float, relative: Scalar | float, level: Scalar) -> Scalar:
    """What an outcome may lose, in its own unit, where production earns `level`."""
    return allowed * jnp.where(relative > 0, jnp.abs(level), 1)


# What is certain of the outcomes.


class Change(NamedTuple):
    """The change of an outcome from its value under `production`, in the outcome's own sign.

    `change`: as estimated
    `certain`, `allowed`: at least, or at most where the outcome may rise
    """

    production: float
    change: float
    certain: float
    allowed: float

    def holds(self, sign: int, value: float | None = None) -> bool:
        """Whether it certainly is within what is allowed, or would be if it were the `value`."""
        change = self.certain if value is None else value
        return bool(sign * (change - self.allowed) >= 0)


class JudgedGuardrail(NamedTuple):
    """A guardrail, by its text, and what is certain of its outcome.

    `binds`, `promised_without`: whether more could be promised without the guardrail, and what
    `holds`, `change`: whether it certainly holds, and what it holds of; None without rows that
        certify
    """

    guardrail: str
    binds: bool
    promised_without: float
    holds: bool | None = None
    change: Change | None = None

    def to_dict(self) -> dict[str, Any]:
        """One entry of `guardrails` in `mopl learn --json`."""
        found = self._asdict()
        del found["change"]
        if self.change is not None:
            return found | self.change._asdict()
        del found["holds"]
        return found


class TradedPolicy(NamedTuple):
    """A policy that trades one outcome for the reward, and the changes of the outcomes by name."""

    policy: Any
    gain: float
    certified_gain: float
    outcomes: dict[str, Change]

    def to_dict(self) -> dict[str, Any]:
        """What an entry of `front` in `mopl learn --json` says of the policy."""
        outcomes = {name: made._asdict() for name, made in self.outcomes.items()}
        gains = {"gain": self.gain, "certified_gain": self.certified_gain}
        return gains | {"outcomes": outcomes}
