"""Words of a text in any language, as the measures on answers count them."""

from __future__ import annotations

import re

# Thai, Lao, Burmese, Khmer, kana, Han: written without spaces
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W\d_]+)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_words(text: str) -> list[str]:
    """Lower-case words without punctuation; single characters in scripts without spaces; names in code are split."""
    return [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text).replace("_", " "))]
