"""The public names and their parameters, as listed in `api.txt`: users see what changes there.

After a change that is meant: `PYTHONPATH=. python tests/docs/test_api.py > tests/docs/api.txt`.
"""

import inspect
from pathlib import Path

import mopl_jax

LISTING = Path(__file__).with_name("api.txt")
STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def listing():
    """One line a name: of a module its path, of anything called its parameters."""
    return "".join(f"{line(name)}\n" for name in sorted(mopl_jax.__all__))


def line(name):
    found = getattr(mopl_jax, name)
    if inspect.ismodule(found):
        return f"{name}: module {found.__name__}"
    return f"{name}({', '.join(parameters(inspect.signature(found)))})"


def parameters(signature):
    """Names, with `=` where one may be left out and a star before those that need their name."""
    named = False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not named:
            yield "*"
            named = True
        yield STARS.get(one.kind, "") + one.name + ("" if one.default is one.empty else "=")


def test_the_public_names_are_those_listed():
    assert listing() == LISTING.read_text()


if __name__ == "__main__":
    print(listing(), end="")
