"""`python -m benchmarks` lists the studies, `NAME [--option …]` or `all` runs and stores them.

`python -m benchmarks table NAME …` (or `table all`) makes the tables again from what is stored.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import _study


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2 for an unknown study or a complaint, in one line."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command
    if not arguments:
        print(listing())
        return 0
    try:
        first, *rest = arguments
        if first == "table":
            return tables(rest)
        if first == "all":
            return everything(rest)
        _study.run(named([first])[0], rest)
    except (ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def listing() -> str:
    """Every study and its first question."""
    studies = _study.studies().items()
    return "\n".join(f"{name:20} {study.question.partition('?')[0]}?" for name, study in studies)


def named(names: Sequence[str]) -> list[_study.Study]:
    """The studies of these names."""
    known = _study.studies()
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown study {unknown[0]!r}; known: {', '.join(known)}, all")
    return [known[name] for name in names]


def tables(names: Sequence[str]) -> int:
    """Write and print the tables of these studies, or of all that are stored; nothing computes."""
    every = list(names) in ([], ["all"])
    stored = [study for study in _study.studies().values() if study.stored()] if every else []
    for study in stored or named(names):
        print(f"# {study.name}: {study.question}\n\n{_study.write_table(study)}")
    return 0


def everything(arguments: Sequence[str]) -> int:
    """Each study in a process of its own, so that devices, precision and memory are its own."""
    wanted = [x for x in _study.studies().values() if not x.attribute("ON_DEMAND", False)]
    programs = [[sys.executable, "-m", "benchmarks", study.name, *arguments] for study in wanted]
    return max(subprocess.run(program).returncode for program in programs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
