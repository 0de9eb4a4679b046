"""Named columns of a file as numpy arrays, for tables that are no logs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mopl_jax.io.columns import Place, codes, numbers
from mopl_jax.io.kinds import alike
from mopl_jax.io.source import empty
from mopl_jax.io.sources import open_source


def read_columns(
    path: Path | str, names: Sequence[str], labels: Sequence[str] = ()
) -> dict[str, Any]:
    """Columns of a file, (n,) each with n ≥ 1. `names` as float64, booleans as 0 and 1; `labels`,
    which stand for themselves, as whole numbers in their order, from 0. ValueError as for a log.
    """
    source = open_source(path)
    names = [source.column(name) for name in dict.fromkeys((*names, *labels))]
    known: dict[str, dict] = {name: {} for name in labels}

    def read(piece, name):
        place = Place(piece.place, name, piece.first_row)
        column = piece.rows.column(name)
        return codes(column, place, known[name]) if name in known else numbers(column, place)

    pieces = (piece for piece in alike(source.scan(names, labels)) if piece.rows.num_rows)
    parts = [{name: read(piece, name) for name in names} for piece in pieces]
    if not parts:
        raise ValueError(empty(path))
    table = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return table | {name: _ranks(known[name])[table[name]] for name in labels}


def _ranks(known):
    """The place of each value among all, by length first: so whole numbers are in order, also as
    text.
    """
    order = sorted(known, key=lambda value: (len(str(value)), str(value)))
    ranks = np.empty(len(known), np.int64)
    ranks[[known[value] for value in order]] = np.arange(len(known))
    return ranks
