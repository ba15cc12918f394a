"""What an OpenQASM program may ask for, before anything reads it: few lines can stand for endless ones."""

import re

from redqubit.errors import UsageError

MAX_BYTES = 1 << 20  # of a program
MAX_QUBITS = 1000
MAX_BITS = 10_000
MAX_MODIFIED = 10  # qubits of a program with modifiers (`ctrl @`), which become matrices of 4^n numbers
MAX_INSTRUCTIONS = 1_000_000  # with all gates written out
_LIBRARIES = ("qelib1.inc", "stdgates.inc")  # of Qiskit itself: no other file is opened


def check_program(text: str) -> None:
    """Refuse a program that includes a file, or declares or repeats too much.

    Args:
        text: OpenQASM 2 or 3 without comments.

    Raises:
        UsageError: If it does.

    Example:
        >>> check_program("OPENQASM 2.0; qreg q[7000];")
        Traceback (most recent call last):
        redqubit.errors.UsageError: Argument `source` must declare 1,000 qubits or less, but declares 7,000: write a
            smaller program.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise _refused(f"have {MAX_BYTES:,} bytes or less", "has more")
    for name in re.findall(r"""\binclude\s*(["'][^"']*["']?|[^\s;]*)""", text):
        if name.strip("\"'") not in _LIBRARIES:
            raise _refused(f"include {' or '.join(_LIBRARIES)} alone", f"includes {name}")
    qubits = _declared(text, r"\bqreg\s+\w+\s*", r"\bqubit\b\s*")
    if qubits > MAX_QUBITS:
        raise _refused(f"declare {MAX_QUBITS:,} qubits or less", f"declares {qubits:,}")
    bits = _declared(text, r"\bcreg\s+\w+\s*", r"\bbit\b\s*")
    if bits > MAX_BITS:
        raise _refused(f"declare {MAX_BITS:,} bits or less", f"declares {bits:,}")
    total, widest = _written_out(text)
    if "@" in text:
        controls = [
            int(n) if n.isdecimal() and len(n) < 9 else MAX_BITS for n in re.findall(r"ctrl\s*\(([^)]*)\)", text)
        ]
        most = max(qubits, widest, *controls, *(s.count("ctrl") for s in text.split(";")))
        if most > MAX_MODIFIED:
            raise _refused(f"put modifiers on {MAX_MODIFIED} qubits or less", f"has them on {most:,}")
    total *= max(1, qubits)  # a statement on whole registers is one for each of their qubits
    if total > MAX_INSTRUCTIONS:
        raise _refused(f"have {MAX_INSTRUCTIONS:,} instructions or less when written out", f"may have {total:,}")


def _declared(text: str, *openings: str) -> int:
    """Return how many qubits or bits are declared in all."""
    found = [m for opening in openings for m in re.findall(opening + r"(?:\[([^\]]*)\])?", text)]
    for size in found:
        if size and not size.strip().isdecimal():
            raise _refused("give the sizes of registers as numbers", f"has [{size.strip()}]")
    return sum(int(size) if len(size) < 20 else 10**20 for size in (n.strip() or "1" for n in found))


def _written_out(text: str) -> tuple[int, int]:
    """Return how many instructions a program or a gate of it stands for at most, and the most qubits of a gate."""
    sizes: dict[str, int] = {}
    gate, body, size, width, total, widest = "", False, 0, 1, 0, 0
    words = iter(re.findall(r"\w+|[{}(),;]", text))
    for word in words:
        count = 1 if word == ";" else sizes.get(word, 0)
        if word == "gate":
            gate, body, size, width = next(words, ""), False, 0, 1
        elif not gate:
            total += count
        elif word == "}":
            sizes[gate], widest, gate = size, max(widest, width), ""
        elif body:
            size += count
        elif word == "{":
            body = True
        elif word in ",)":  # what stands before the bracket are angles
            width = width + 1 if word == "," else 1
    return max(total, size, *sizes.values(), 0), widest


def _refused(must: str, but: str) -> UsageError:
    return UsageError(f"Argument `source` must {must}, but {but}: write a smaller program.")
