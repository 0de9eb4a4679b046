"""Policies as JSON documents: what a learner writes, a platform reviews, and `mopl evaluate`
reads back.

    {"mopl_policy": 1, "kind": "normal", "mean": [0.1, 0.4],
     "covariance": [[0.04, 0.0], [0.0, 0.09]], …}

| kind | keys |
|---|---|
| `normal` | `mean` (d,); `covariance`, (d, d) or a number times I, or `scale`, (d,) or a number |
| `uniform` | `low`, `high` (d,) |
| `deterministic` | `action` (d,) |
| `log_normal` | as `normal`, of the logarithms |
| `logistic_normal` | as `normal`, of the log ratios to the last share, (d − 1) |
| `soft_clipped_normal` | as `normal`, of what `SoftClip` keeps between `low` and `high`, bending \
over `softness` (d,) or a number |
| `truncated_normal`, `clipped_normal` | `mean` (d,), `scale`; `low`, `high` or none |
| `dirichlet` | `concentration` (d,) > 0 |
| `discrete` | `actions` (k, d), `probabilities` (k,) > 0 |
| `mixture` | `weights` (k,) > 0, `components`: k documents of the kinds above, without version |
| `product` | `parts`: documents of the kinds above, each for the next weights |
| `segmented` | `context`: c columns; `segments`: `values` (c,), null for missing, and `policy`; \
`otherwise`: the policy of all other rows; policies of the kinds above |
| `contextual_normal` | as `normal`, but for the mean: that of a row is the output of `layers` \
(`matrix`, `bias`; tanh between them) of its `inputs`, clipped to `low`, `high` (d,); `otherwise` \
(d,) where these are not known. Of an input: `column` and `levels`, or `centre`, `width`, `low`, \
`high`, `missing` of a number |
| `contextual_log_normal` | the same, of the logarithms |

`objectives`, d names, says which weight is which: beside a log, weights are matched by these
names, with or without the prefix that all of them have. Every other key is the writer's: estimator,
value, provenance.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mopl_jax.io import documents
from mopl_jax.io.files import finite, write_json
from mopl_jax.io.policy_entries import Described
from mopl_jax.io.policy_keys import describe
from mopl_jax.io.refusals import short, within
from mopl_jax.policies.policy import Policy

VERSION = 1
_RESERVED = {"mopl_policy", "kind"}.union(*(e.__struct_fields__ for e in get_args(Described)))


def write_policy(path: Path | str, policy: Policy, **about: Any) -> Path:
    """Write `policy` and what there is to say `about` it, all of it or nothing; numbers that are
    not finite become null.

    ValueError for a policy that has no JSON form, or `about` with a key of the format. Scales
    are kept to every bit, a full covariance to rounding.
    """
    return write_json(Path(path), document(policy, **about))


def read_policy(path: Path | str, names: Sequence[str] = ()) -> tuple[Policy, dict[str, Any]]:
    """The policy and its whole document; ValueError in one line for anything that is not one.

    `names` of the weights of a log: where they are the document's objectives in another order, the
    policy is in theirs. ValueError where only some of them are.
    """
    refusal = "expected a policy in JSON, got something else ({}); write it again"
    content = documents.load(path, json.loads, refusal)
    with within(str(path)):
        return parse(content, names), content


def given_policy(target: Any, names: Sequence[str] = ()) -> Any:
    """A policy, or that of a path, in the order of the `names`; anything else as it is."""
    is_path = isinstance(target, str) or hasattr(target, "__fspath__")
    return read_policy(target, names)[0] if is_path else target


def document(policy: Policy, **about: Any) -> dict[str, Any]:
    """The JSON document of a policy, as plain Python."""
    described = {"mopl_policy": VERSION} | describe(policy)
    taken = sorted(_RESERVED & about.keys())
    if taken:
        raise ValueError(
            f"expected free keys about the policy, got {taken[0]!r}, which the format uses;"
            " rename it"
        )
    _check_objectives(about, policy.dim)
    return described | {key: finite(value) for key, value in about.items()}


def parse(content: Any, names: Sequence[str] = ()) -> Policy:
    """The policy that a document describes, in JAX's default precision, in the order of `names`."""
    if not isinstance(content, dict) or "mopl_policy" not in content:
        raise ValueError(
            "expected a policy document, got no key 'mopl_policy'; write it with"
            " policy_json.write_policy"
        )
    if content["mopl_policy"] != VERSION:
        raise ValueError(
            f"expected policy format {VERSION}, got {content['mopl_policy']!r}; write it again with"
            " this version"
        )
    described = documents.fit(content, Described, "policy")
    with documents.flat():
        _check_objectives(content, described.dim)
        order = _order(content.get("objectives") or (), names)
        return (described.moved(order) if order else described).build(described.dim)


def _check_objectives(content, d):
    names = content.get("objectives")
    if names is None:
        return
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"key 'objectives': expected a list of names, got {short(names)}")
    if len(names) != d or len(set(names)) != d:
        raise ValueError(
            f"key 'objectives': expected {d} different names, one for each weight, got"
            f" {short(names)}"
        )


def _order(objectives, names) -> list[int]:
    """Which objective each of the `names` is; nothing where they have no name in common."""
    if len(objectives) != len(names):  # one column of lists, or a complaint to come
        return []
    given, wanted = _without_prefix(objectives), _without_prefix(names)
    if set(given) == set(wanted):
        return [given.index(name) for name in wanted]
    if {*given, *objectives} & {*wanted, *names}:
        raise ValueError(
            f"its objectives are {', '.join(objectives)}, the log's weights {', '.join(names)};"
            " name the columns of its weights, with --action"
        )
    return []


def _without_prefix(names):
    stem = len(os.path.commonprefix(list(names)))
    return [name[stem:] for name in names]
