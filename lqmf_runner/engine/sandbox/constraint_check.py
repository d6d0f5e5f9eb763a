"""Tries one constraint in a separate process: `python constraint_check.py`, with the grammar as JSON on stdin.

A hostile grammar can exhaust the compiler's stack, memory or time, and no limit inside a process prevents that. Here
it ends only this process, and the worker takes that for a refusal. This file is run as a script. So it imports nothing
else of the program and starts in a few hundredths of a second.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

CPU_S = 2
_ADDRESS_SPACE = 2 << 30
# Half of what the worker's own threads have at the least, so that what passes here has room to spare there.
_STACK = 4 << 20
_STEPS = 16


def parser_limits() -> LLParserLimits:
    """Limits of one compiled grammar: half of llguidance's default work a step, about 40 MB of lexer states."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        step_lexer_fuel=100_000,
        step_max_items=25_000,
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    grammar = sys.stdin.read()
    threading.stack_size(_STACK)
    thread = threading.Thread(target=_try, args=(grammar,))
    thread.start()
    thread.join()


def _try(grammar: str) -> None:
    """Print what is wrong with the grammar as JSON, or null. Its first steps are taken, too."""
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=parser_limits())
    for _ in range(_STEPS):
        if matcher.is_error() or matcher.is_stopped():
            break
        mask = matcher.compute_bitmask()
        allowed = next((8 * i + byte.bit_length() - 1 for i, byte in enumerate(mask) if byte), None)
        if allowed is None or not matcher.consume_token(allowed):
            break
    print(json.dumps(matcher.get_error() if matcher.is_error() else None))


if __name__ == "__main__":
    main()
