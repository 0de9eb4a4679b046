"""What a log says of a reward that a learnt metric made: a note in the metadata of its file, which
policies learnt from it take along.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

KEY = b"mopl_metric"


def noted(note: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Metadata of a file with this note: its `column`, and what that is."""
    return {KEY: json.dumps(dict(note)).encode()}


def provenance_of(schema: pa.Schema, reward: str | None) -> dict[str, Any]:
    """The note as `learnt_metric`, for a provenance; nothing where it is of no column `reward`."""
    with contextlib.suppress(ValueError):
        note = json.loads((schema.metadata or {}).get(KEY, b"null"))
        if isinstance(note, dict) and note.get("column") == reward:
            return {"learnt_metric": note}
    return {}
