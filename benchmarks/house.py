"""How is the house built? Modules, floors, arrows, code tokens, long lines, and words at the door.

Of `mopl_jax` in this checkout, and of another one beside it (`--beside PATH`). A floor is a module
of the longest chain of imports among the package's own modules, wherever in a module the import
stands; an arrow is one module importing another. Rooms are the folders and single modules right
under the package; none has a number of floors where imports go in a circle. Code tokens are those
of Python's `tokenize` but for comments, docstrings (strings that are statements of their own), line
ends, indentation and the end of the file. Tokens a line and long lines count lines that are not
blank.
"""

import ast
import graphlib
import io
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

from benchmarks import _study

SIZES = {"beside": Path()}  # another checkout
PACKAGE, LONG = "mopl_jax", 88
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def run(options) -> list[dict]:
    """One row for each checkout."""
    beside = [options.beside] if options.beside != Path() else []
    here = _study.HERE.parent
    named = zip(("beside", "here") if beside else ("here",), [*beside, here], strict=True)
    return [{"checkout": name} | measure(path) for name, path in named]


def measure(checkout: Path) -> dict:
    """Everything of one checkout."""
    paths = sorted((checkout / PACKAGE).rglob("*.py"))
    if not paths:
        raise ValueError(f"{checkout}: expected a checkout that holds {PACKAGE}/, found none")
    sources = {module(path, checkout): path.read_text() for path in paths}
    arrows = {name: imports(name, text, sources) for name, text in sources.items()}
    tokens = sum(1 for text in sources.values() for _ in code_tokens(text))
    lines = [line for text in sources.values() for line in text.splitlines() if line.strip()]
    return {
        "modules": sum(bool(text.strip()) for text in sources.values()),
        **_chain("floors", arrows),
        "arrows": sum(map(len, arrows.values())),
        "rooms": len(_rooms(arrows)),
        **_chain("floors_of_rooms", _rooms(arrows)),
        "arrows_of_rooms": sum(map(len, _rooms(arrows).values())),
        "lines": len(lines),
        "code_tokens": tokens,
        "tokens_a_line": tokens / len(lines),
        "long_lines": sum(len(line) > LONG for line in lines) / len(lines),
        "median_function_lines": statistics.median(_functions(sources.values())),
        "readme_words": len((checkout / "README.md").read_text().split()),
    }


def _chain(name, arrows):
    """The number of floors, none if imports go in a circle, and the chain or the circle."""
    chain, circle = longest(arrows)
    return {name: None if circle else len(chain), f"chain_of_{name}": " → ".join(chain)}


def _rooms(arrows):
    """The arrows between folders and single modules of the package."""
    rooms: dict[str, set[str]] = {}
    for name, targets in arrows.items():
        rooms.setdefault(_room(name), set()).update({_room(x) for x in targets} - {_room(name)})
    return rooms


def _room(name):
    return ".".join(name.split(".")[:2])


def module(path: Path, checkout: Path) -> str:
    """The name of the module that a file is."""
    parts = path.relative_to(checkout).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, text: str, known: dict[str, str]) -> set[str]:
    """The package's own modules that a module imports; a package's name counts where a name is
    taken from its `__init__`.
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, node, known)
            whole = {f"{base}.{alias.name}" for alias in node.names}
            found |= (whole & known.keys()) or {base}
    return (found & known.keys()) - {name}


def _absolute(name, node, known):
    if not node.level:
        return node.module
    package = any(other.startswith(f"{name}.") for other in known)
    parts = name.split(".")[: len(name.split(".")) - node.level + package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def longest(arrows: dict[str, set[str]]) -> tuple[list[str], bool]:
    """The longest chain of imports, from the top floor down; or a circle, and that it is one."""
    try:
        return max(chains(arrows).values(), key=len), False
    except graphlib.CycleError as error:
        return error.args[1][::-1], True


def chains(arrows: dict[str, set[str]]) -> dict[str, list[str]]:
    """Of each module the longest chain of imports down from it."""
    found: dict[str, list[str]] = {}
    for name in graphlib.TopologicalSorter(arrows).static_order():
        below = max((found[x] for x in sorted(arrows[name])), key=len, default=[])
        found[name] = [name, *below]
    return found


def code_tokens(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each token that is code."""
    docstrings = {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.start not in docstrings:
            yield token.start[0], token.string


def _functions(sources) -> Iterator[int]:
    """Lines of each function without its docstring."""
    for text in sources:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                yield (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def table(rows: list[dict]) -> str:
    """A line a measure, a column a checkout; then the longest chains."""
    shown = {"long_lines": "{:.1%}", "tokens_a_line": "{:.2f}"}
    names = [name for name in rows[0] if name != "checkout"]
    lines = [
        [name.replace("_", " "), *(_cell(row[name], shown.get(name, "{:,}")) for row in rows)]
        for name in names
        if not name.startswith("chain")
    ]
    chains = (
        f"- {name.replace('_', ' ')}, {row['checkout']}: {row[name].replace(f'{PACKAGE}.', '')}"
        for name in names
        if name.startswith("chain")
        for row in rows
    )
    head = ("", *(row["checkout"] for row in rows))
    return "\n".join((_study.markdown(head, lines), "", *chains))


def _cell(value, form):
    return "circle" if value is None else form.format(value)
