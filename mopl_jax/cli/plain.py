"""Other characters for a console that lacks those of a result, which is printed all the same."""

import codecs
import contextlib
import unicodedata
from typing import Any

WORDS = {
    **dict.fromkeys("−–—─━═╌╴╶╸╺", "-"),
    **dict.fromkeys("│┃║╷╵╹╻", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇", "+"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **{"≥": ">=", "≤": "<=", "∞": "inf", "±": "+/-", "×": "x", "·": "*", "…": "...", "→": "->"},
    **{"≈": "~", "√": "sqrt", "½": "1/2", "⅔": "2/3", "Σ": "sum", "∫": "integral", "•": "*"},
    **{"α": "alpha", "β": "beta", "δ": "delta", "Δ": "delta", "λ": "lambda", "μ": "mu"},
    **{"π": "pi", "σ": "sigma", "χ": "chi", "ψ": "psi", "ω": "omega", "θ": "theta", "ε": "eps"},
    **{"ℓ": "l", "∼": "~", "ᵀ": "T"},
}


def install(*streams: Any) -> None:
    """Let each stream write what its encoding can, and other characters for the rest."""
    codecs.register_error("mopl_plain", _substitute)
    for stream in streams:
        with contextlib.suppress(AttributeError, ValueError):  # one that cannot, or is closed
            stream.reconfigure(errors="mopl_plain")


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_plain, lacking)), error.end


def _plain(character: str) -> str:
    """The word for a character, or what is left of it without its accents, or a question mark."""
    if character in WORDS:
        return WORDS[character]
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return bare or "?"
