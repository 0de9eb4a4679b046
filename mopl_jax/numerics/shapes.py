"""Arrays that stand in many signatures, named by their shape; the others are written out.

The axes: d weights of an action, n rows of a log.
"""

from jaxtyping import Array, Bool, Float, Int, Key

Scalar = Float[Array, ""]
Vector = Float[Array, " d"]
Matrix = Float[Array, "d d"]
PerRow = Float[Array, " n"]
Batch = Float[Array, "*batch"]  # of one shape with all others of the record or signature
Floats = Float[Array, "..."]  # of any shape
PerBlockRow = Float[Array, " m"]  # of one block of a log, m of its rows
Count = Int[Array, ""]
Truth = Bool[Array, ""]
OneKey = Key[Array, ""]
