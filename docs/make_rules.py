"""Write docs/rules.md from the rules' own docstrings.

    python docs/make_rules.py [--check]

With --check nothing is written; the exit status is 1 if the file is out of date.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

import docstring_parser

from byzflow.experiments.registry import KINDS, dotted, registry

TARGET = Path(__file__).with_name("rules.md")
HEAD = """# The rules

Written by `python docs/make_rules.py` from the docstrings; do not edit. n vectors of d coordinates come in,
f of them may lie. For every rule: the answer has the library, dtype, device and shape of the first vector
(whole numbers become floats: float64 in NumPy, the default dtype in torch);
linear rules leave out rows that are not finite (where rows are measured, those of norm 3e150 and more too),
column-wise ones sort them last; ties go to the lower row; eager calls, graphs, lazy arrays and any number of
workers give the same bits. `byzflow.testing` checks that, and [CONTRIBUTING](../CONTRIBUTING.md#decisions)
says why (decisions 4 to 7). Squares are taken in float64: rows nearer than 1e-154 to each other, or to zero
where lengths count, cannot be told apart well, and below 1e-162 not at all.
"""


def entry(rule: type) -> str:
    """Return the section of one rule: definition, tolerance, cost, reference."""
    parsed = docstring_parser.parse(inspect.getdoc(rule) or "", docstring_parser.DocstringStyle.NUMPYDOC)
    lines = [
        f"### {rule.__name__}",
        "",
        f"`{dotted(rule)}{signature(rule)}`",
        "",
        f"{parsed.short_description}",
    ]
    if parsed.long_description:
        lines += ["", parsed.long_description]
    conditions = [raised for raised in parsed.raises if raised.type_name == "ToleranceError"]
    for raised in conditions:
        lines += ["", f"**Tolerance.** `ToleranceError`: {lower_first(flat(raised.description))}"]
    for meta in parsed.meta:
        if meta.args[0] == "notes" and meta.description:
            lines += ["", f"**Cost.** {flat(meta.description)}"]
        if meta.args[0] == "references" and meta.description:
            lines += ["", f"**Reference.** {flat(re.sub(r'^[.][.] ', '', meta.description, flags=re.M))}"]
    return "\n".join(lines)


def signature(rule: type) -> str:
    """Return the arguments with their defaults, without types."""
    whole = inspect.signature(rule)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in whole.parameters.values()]
    return str(whole.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def flat(text: str | None) -> str:
    """Return a paragraph on one line."""
    return " ".join((text or "").split())


def lower_first(text: str) -> str:
    """Return the text to follow a colon."""
    return text[:1].lower() + text[1:]


def page() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for kind in KINDS:
        parts.append(f"## {kind.replace('-', ' ').capitalize()}")
        parts += [entry(rule) for rule in sorted(registry(kind), key=lambda rule: rule.__name__)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
