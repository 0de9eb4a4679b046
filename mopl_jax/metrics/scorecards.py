"""Scorecards: exports of past tests in any of three layouts, made rows of one arm each.

| layout | one row is | its columns |
|---|---|---|
| wide | an arm of an experiment | `mean_NAME`, `variance_NAME` or `std_error_NAME`; `covariance` |
| long | a metric in an arm | `metric`, `mean`, `variance` or `std_error` |
| pairs | either, of a treatment | also `control_mean`, `control_variance`, `control_users` |

All have `experiment`, `arm` and `users` (or `n`), and may have `label`, `share` (the planned one),
`time` (of a snapshot: users and means so far) and `fold` (of a split of the users). Names of your
own are mapped: in long tables and pairs a column, in wide ones the beginning of its name. A
standard error is that of the mean.
"""

import dataclasses
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mopl_jax.io import documents
from mopl_jax.io.documents import fit, load, numbered
from mopl_jax.io.refusals import within
from mopl_jax.io.sources import open_source
from mopl_jax.numerics.check import choose

SIDES = ("n", "mean", "variance", "std_error")  # what a row of pairs says of the control too
ROLES = ("experiment", "arm", "label", "time", "fold", "share", "metric")
KNOWN = (*ROLES, "covariance", "second_moment", *SIDES, *(f"control_{role}" for role in SIDES))
NEEDED = ("experiment", "arm", "n")
ALSO: dict[str, str] = {"users": "n", "control_users": "control_n"}  # other names of two roles
PREFIXED = ("mean", "variance", "std_error")
FORMATS = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv")
ERRORS = ("variance", "std_error")
USERS = "users by metric"  # of a wide row made of long ones
SHOWN = 40  # columns that a complaint lists

Row = dict[str, Any]  # of a table, whose columns are its own, until `experiments.arm_of` reads it


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a table is read.

    `columns`: the table's own name of each role.
    `control`: the name of the control arms; without it and without labels, the arm that comes first
    in most experiments, or in each where none does.
    `at`: the time of the snapshots to take, or of the last before it; the last ones without it.
    `shares`: planned shares of users by name of the arm, in any unit.
    `correlation`: of the metrics over users, where the table has no covariances: a file, or one of
    nulls, increments, independent.
    `keep`: keep experiments whose arms have not the planned shares.
    `leave_out`: leave out what cannot be used, and say so, instead of refusing the table.
    `standardise`: effects in standard deviations of a user in their own experiment.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    control: str | None = None
    at: float | str | None = None
    shares: Mapping[str, float] | None = None
    correlation: Path | str | None = None
    keep: bool = False
    leave_out: bool = False
    standardise: bool = False


class Described(documents.Entry):
    """A table described in TOML: its `path`, and what `Reading` holds of it."""

    path: str
    columns: dict[str, str] = {}
    control: str | None = None
    shares: dict[str, float] | None = None


def read_columns(texts: Sequence[str]) -> dict[str, str]:
    """ROLE=NAME of each text as a dictionary."""
    pairs = [text.partition("=") for text in texts]
    if bad := [text for text, pair in zip(texts, pairs, strict=True) if not (pair[0] and pair[2])]:
        raise ValueError(f"--column: expected ROLE=NAME, as arm=variant_id; got {bad[0]!r}")
    return {role: name for role, _, name in pairs}


def paths_of(tables: Path | str | Sequence[Path | str]) -> list[Path]:
    """The paths of one table, or of several."""
    return [Path(x) for x in ([tables] if isinstance(tables, str | Path) else tables)]


def described(path: Path, reading: Reading) -> tuple[Path, Reading]:
    """The table that a path names, and how to read it: TOML says both, options come before it."""
    if path.suffix.lower() != ".toml":
        return path, reading
    refusal = "expected a table described in TOML, got something else ({})"
    content = load(path, tomllib.loads, refusal)
    with within(str(path)):
        said = fit(content, Described)
    return path.parent / said.path, dataclasses.replace(
        reading,
        columns=said.columns | dict(reading.columns),
        control=reading.control or said.control,
        shares=reading.shares or said.shares,
    )


def rows(path: Path, reading: Reading) -> list[Row]:
    """The rows of a table as wide ones, an arm and a time each; ValueError in one line."""
    found = _raw(path)
    names = list(dict.fromkeys(name for row in found for name in row))
    renamed = [_renamed(row, _mapping(path, names, reading.columns)) for row in found]
    keys = dict.fromkeys(name for row in renamed for name in row)
    _check(path, keys, names)
    with within(str(path)):
        _named(renamed, [key for key in ("experiment", "arm", "metric") if key in keys])
        made = renamed
        if "control_n" in keys:
            made = list(_sides(renamed, reading.control or "control"))
        if "metric" in keys:
            return [_scaled(row) for row in _wide(made)]
        return [_scaled(row) | {"row": number} for number, row in enumerate(made, 1)]


def metrics(row: Row) -> tuple[str, ...]:
    """The metrics of a wide row, in the order of its columns."""
    return tuple(key.removeprefix("mean_") for key in row if key.startswith("mean_"))


# The file.


def _raw(path):
    if path.suffix.lower() == ".json":
        found = load(path, numbered, "not valid JSON ({}); export the file again")
    elif path.suffix.lower() in FORMATS:
        source = open_source(path)
        pieces = source.scan([source.column(name) for name in source.schema.names], ())
        found = [row for piece in pieces for row in piece.rows.to_pylist()]
    else:
        raise ValueError(
            f"{path}: expected a file ending in {', '.join(FORMATS)}, .json or .toml, got"
            f" {path.suffix!r}; convert it"
        )
    if not isinstance(found, list) or not found or not all(isinstance(r, dict) for r in found):
        raise ValueError(
            f"{path}: expected a list of rows, one for each experiment and arm, got none; see the"
            " columns"
        )
    return found


# Names.


def _mapping(path, names, columns):
    """The role of each column that has one under another name, of prefixes too."""
    given = {ALSO.get(str(role), str(role)): str(name) for role, name in columns.items()}
    with within(str(path)):
        choose(list(given), dict.fromkeys((*KNOWN, *ALSO)), "role of --column")
    long = "metric" in names or "metric" in given
    mapping = {other: role for other, role in ALSO.items() if other in names}
    for role, name in given.items():
        prefix = role.removeprefix("control_") in PREFIXED and not long
        hits = [x for x in names if x == name or prefix and str(x).startswith(name)]
        if not hits:
            raise ValueError(
                f"{path}: --column {role}={name}: no such column; columns: {_listed(names)}"
            )
        mapping |= {x: f"{role}_{x.removeprefix(name)}" if prefix else role for x in hits}
    return mapping


def _renamed(row, mapping):
    return {k: v for k, v in row.items() if k not in mapping} | {
        mapping[k]: v for k, v in row.items() if k in mapping
    }


def _check(path, keys, names):
    means = "mean" if "metric" in keys else "mean_"
    absent = [_public(role) for role in NEEDED if role not in keys]
    if absent:
        roles = ", ".join(map(_public, KNOWN))
        raise ValueError(
            f"{path}: no column {', '.join(map(repr, absent))}; columns: {_listed(names)}; name"
            f" yours by --column {absent[0]}=COLUMN (roles: {roles})"
        )
    if not any(key == means or means == "mean_" and key.startswith(means) for key in keys):
        wanted = "a column mean" if means == "mean" else "columns mean_NAME, one for each metric"
        raise ValueError(
            f"{path}: expected {wanted}, got {_listed(names)}; name yours by --column"
            " mean=COLUMN, and in a long table --column metric=COLUMN"
        )


def _named(rows, wanted):
    for number, row in enumerate(rows, 1):
        if absent := [key for key in wanted if row.get(key) in (None, "")]:
            raise ValueError(f"row {number}: no {absent[0]}; fill it in or drop the row")


def _public(role):
    """The name of a role that documents use."""
    return next((other for other, own in ALSO.items() if own == role), role)


def _listed(names):
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


# Layouts.


def _sides(rows, control) -> Iterator[Row]:
    """Two rows for one that has both arms; a control that several treatments share comes once."""
    seen: dict[tuple, Row] = {}
    for row in rows:
        theirs = {key: row[key] for key in row if key.startswith("control_")}
        base = {key.removeprefix("control_"): value for key, value in theirs.items()}
        own = {key: value for key, value in row.items() if key not in theirs}
        keys = ("experiment", "time", "fold", "metric")
        kept = {key: own[key] for key in keys if key in own}
        if own.get("arm") == control:
            raise ValueError(
                f"experiment {str(own['experiment'])!r}: expected treatments in rows that have"
                f" both arms, got one named {control!r}; name the control by --control"
            )
        first = seen.setdefault(tuple(map(str, kept.values())), base)
        if first is base:
            yield kept | base | {"arm": control, "label": "control"}
        elif first != base:
            raise ValueError(
                f"experiment {str(own['experiment'])!r}, arm {str(own['arm'])!r}: expected the"
                " control that its other treatments have, got another; give each its experiment"
            )
        yield {"label": "unknown"} | own


def _wide(rows) -> list[Row]:
    """A row for each experiment, arm and time, of rows a metric."""
    found: dict[tuple[str, ...], Row] = {}
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(str(row.get(name)) for name in ("experiment", "arm", "time", "fold"))
        metric = str(row["metric"])
        if metric in cells.setdefault(key, {}):
            raise ValueError(
                f"{place(row)}, metric {metric!r}: expected one row, got two; drop one, or name the"
                " time of snapshots by --column time=COLUMN"
            )
        cells[key][metric] = row
        found.setdefault(key, {k: v for k, v in row.items() if k not in (*SIDES, "metric")})
    order = dict.fromkeys(metric for some in cells.values() for metric in some)
    return [found[key] | _columns(some, order) for key, some in cells.items()]


def place(row: Row) -> str:
    """Whose row it is."""
    when = f" at {row['time']}" if row.get("time") is not None else ""
    return f"experiment {str(row.get('experiment'))!r}, arm {str(row.get('arm'))!r}{when}"


def _columns(cells, order) -> Row:
    """What the metrics of one arm say, under the names of the wide layout.

    Where metrics have other numbers of users, variances are those that give each mean its own
    standard error with the largest of these numbers; each is kept under `USERS`.
    """
    users = {name: row.get("n") for name, row in cells.items()}
    odd = [n for n in users.values() if not _positive(n)]
    most = odd[0] if odd else max(users.values())
    made: Row = {"n": most, USERS: users}
    for name, row in ((name, cells[name]) for name in order if name in cells):
        made[f"mean_{name}"] = row.get("mean")
        made |= {f"{kind}_{name}": row[kind] for kind in ERRORS if row.get(kind) is not None}
        if row.get("variance") is not None and not odd and users[name] != most:
            made[f"variance_{name}"] = row["variance"] * most / users[name]
    return made


def _scaled(row) -> Row:
    """Variances over users for standard errors of means, σ² = n SE²; what is no number stays."""
    made = dict(row)
    for key, error in row.items():
        if key.startswith("std_error_") and _positive(error) and _positive(row.get("n")):
            del made[key]
            made[f"variance_{key.removeprefix('std_error_')}"] = row["n"] * error * error
    return made


def _positive(value):
    return type(value) in (int, float) and 0 < value < math.inf
