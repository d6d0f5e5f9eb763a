"""A heuristic score of one answer: length appropriateness, relevance to the prompt, coherence and non-repetition.

It needs no second model, knows nothing of truth, and takes a fraction of a millisecond. It tells a working model from
a broken one (empty, looping, garbled or off-topic answers); it does not rank good models. Text is cut into words
where a script has spaces and into single characters where it has none, so most of it works in any language; the
English words below only refine it.

The parts, whose sum is the score (0–1):

* **length** (0–0.3). Full from the fewest words that such a prompt asks for (one for a short question or for "one
  word", "only", "translate"; 12 where it says "explain" or "why"; else 3) up to a generous most (400, or 120 for a
  short question), then falling slowly. Repeated text does not count as length. An answer that ends by itself in
  mid-sentence loses a tenth.
* **relevance** (0–0.3). Share of the prompt's content words that the answer takes up, against a goal that is modest
  and grows with the prompt. An answer of a few words gives no evidence and keeps the benefit of the doubt; code for a
  prompt about code counts as evidence.
* **coherence** (0–0.4). Non-repetition 0–0.25 (repeated runs of three words, repeated lines) and well-formedness
  0–0.15 (characters that no text has, words no tongue can speak, no punctuation over a long stretch).
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from ..results.quality import HeuristicScore
from ..results.schema import RequestRecord
from .words import split_words

LENGTH, RELEVANCE, REPETITION, WELL_FORMED = 0.3, 0.3, 0.25, 0.15

_SHORT_QUESTION = re.compile(
    r"^(what|who|whom|whose|when|where|which|how (many|much|old|far|long|tall)|is|are|was|were|do|does|did|can|could"
    r"|will|should|has|have)\b", re.IGNORECASE
)  # fmt: skip
_ASKS_FOR_LITTLE = re.compile(
    r"\b(one|single) (word|number|letter|name|line|sentence)\b|\b(only|briefly|just|yes or no|concise\w*)\b"
    r"|^(translate|list|name|spell|convert|calculate|compute|solve|classify|count)\b", re.IGNORECASE
)  # fmt: skip
_ASKS_FOR_MUCH = re.compile(
    r"\b(explain|describe|discuss|elaborate|compare|contrast|summari[sz]e|essay|story|poem|letter|email|why|how (?!many"
    r"|much|old|far|long|tall)\w+)\b", re.IGNORECASE
)  # fmt: skip
_ASKS_FOR_CODE = re.compile(
    r"\b(code|function|program|script|class|method|regex|sql|query|python|javascript|java|rust|bash|html|css)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|^\s*(def|class|import|from|return|for|while|if|function|const|let|var|public|#include|SELECT|fn|func)\b"
    r"|[{};][ \t]*$|\w\([^()\n]{0,80}\)", re.MULTILINE
)  # fmt: skip
_STOP = frozenset(
    re.findall(
        r"\w+",
        """the and for are was were with that this from have has had not but you your can could would should will what
        when where which who whom whose how why does did its his her their there then than them they she him our out
        into about over also been being any all some each more most other such only very just please give write tell
        explain describe answer question following using use make one two three sentence sentences word words short
        brief briefly list""",
    )
)
_ENDS_SENTENCE = re.compile(r"[.!?…。！？।؟)\]}\"'”’`*|>]\s*$")
_UNSPEAKABLE = re.compile(r"[bcdfghjklmnpqrstvwxz]{6,}|^[bcdfghjklmnpqrstvwxz]{4,}$")


def score_answer(prompt: str, answer: str, *, cut_off: bool = False) -> HeuristicScore:
    """Score an answer to a prompt.

    Args:
        prompt: what was asked (the last user turn of a conversation).
        answer: what the model said.
        cut_off: the answer was ended by the token limit. Only an answer that ended by itself is marked down for
            stopping in mid-sentence.
    """
    words = split_words(answer)
    if not words:
        return HeuristicScore()
    asked = split_words(prompt)
    fresh = 1.0 - _repetition(words, answer)
    is_code = _looks_like_code(answer)
    length = LENGTH * _length(prompt, asked, len(words) * fresh) * fresh
    if not cut_off and not is_code and len(words) > 8 and not _ENDS_SENTENCE.search(answer):
        length *= 0.9
    formed = _well_formed(answer, words, is_code)
    relevance = (
        RELEVANCE * _relevance(prompt, asked, words, is_code) * (0.5 + 0.5 * fresh) * (0.25 + 0.75 * formed)
    )
    coherence = REPETITION * fresh * (0.5 + 0.5 * formed) + WELL_FORMED * formed * (0.5 + 0.5 * fresh)
    parts = [round(part, 4) for part in (length, relevance, coherence)]
    return HeuristicScore(round(sum(parts), 4), *parts)


def mean_heuristic(records: Iterable[RequestRecord]) -> HeuristicScore | None:
    """Mean of the heuristic scores of all answers, part by part; None if there are none."""
    scores = [r.heuristic for r in records if r.error is None and r.heuristic is not None]
    if not scores:
        return None
    return HeuristicScore(*(math.fsum(part) / len(scores) for part in zip(*map(_parts, scores), strict=True)))


def heuristic_se(records: Iterable[RequestRecord]) -> float | None:
    """Standard error of the mean score. Answers to one prompt count as one. None for a single prompt."""
    by_prompt: dict[tuple[str, int], list[float]] = {}
    for record in records:
        if record.error is None and record.heuristic is not None:
            by_prompt.setdefault((record.prompt_id, record.turn), []).append(record.heuristic.score)
    means = [math.fsum(scores) / len(scores) for scores in by_prompt.values()]
    return statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None


def _length(prompt: str, asked: Sequence[str], count: float) -> float:
    """1 within what the prompt asks for, less below and above."""
    last = prompt.rstrip().rsplit("\n", 1)[-1].strip()
    question = len(asked) <= 15 and bool(_SHORT_QUESTION.match(last))
    little = question or bool(_ASKS_FOR_LITTLE.search(prompt)) or len(asked) <= 3
    least = 1 if little else 12 if _ASKS_FOR_MUCH.search(prompt) else 3
    most = 120 if question else 400
    if count < least:
        return max(0.2, count / least)
    return 1.0 if count <= most else max(0.3, most / count)


def _relevance(prompt: str, asked: Sequence[str], words: Sequence[str], is_code: bool) -> float:
    """The share of prompt words in the answer, relative to a goal. Short answers are not penalised."""
    keys = _content(asked)
    said = _content(words)
    if not keys or not said:
        return 1.0 if len(words) <= 12 else 0.7
    hits = len(keys & said)
    goal = min(4.0, 0.3 * len(keys)) + 0.05 * max(0, len(keys) - 14)
    goal = max(1.0, min(goal, 0.4 * len(said)))
    taken_up = min(1.0, hits / goal)
    if is_code and _ASKS_FOR_CODE.search(prompt):
        taken_up = min(1.0, taken_up + 0.5)
    evidence = min(1.0, len(words) / 40)
    return taken_up * evidence + (1.0 - evidence)


def _content(words: Sequence[str]) -> set[str]:
    """Words that carry the topic, cut to five letters so that "reverses" meets "reverse"; pairs in unspaced scripts."""
    found = {w[:5] for w in words if (len(w) > 2 and w not in _STOP) or w.isdigit()}
    return found | {
        a + b for a, b in itertools.pairwise(words) if len(a) == len(b) == 1 and not (a + b).isascii()
    }


def _repetition(words: Sequence[str], text: str) -> float:
    """0 for fresh text to 1 for a loop: runs of three words seen before, or lines seen before."""
    size = 3 if len(words) >= 12 else 1
    if len(words) < 4:
        return 0.0
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    again = 1.0 - len(set(runs)) / len(runs)
    free = 0.15 if size == 3 else 0.4  # ordinary prose and code repeat this much
    by_runs = max(0.0, again - free) / (0.7 - free)
    most_common = Counter(words).most_common(1)[0][1] / len(words)
    by_word = max(0.0, most_common - 0.35) / 0.4 if len(words) >= 6 else 0.0
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 3]
    by_lines = (1.0 - len(set(lines)) / len(lines) - 0.3) / 0.5 if len(lines) >= 4 else 0.0
    return min(1.0, max(by_runs, by_word, by_lines))


def _well_formed(text: str, words: Sequence[str], is_code: bool) -> float:
    """1 for plausible text, less for junk characters, unpronounceable words and long stretches without punctuation."""
    junk = sum(
        c == "\ufffd" or (unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\n\t\r") for c in text
    )
    score = 1.0 - min(1.0, 10 * junk / len(text))
    letters = sum(c.isalnum() or c.isspace() or unicodedata.category(c)[0] == "M" for c in text) / len(text)
    floor = 0.45 if is_code else 0.7
    if letters < floor:
        score -= (floor - letters) / floor
    if not is_code:
        odd = sum(len(w) > 30 or bool(_UNSPEAKABLE.search(w)) for w in words) / len(words)
        score -= min(0.7, max(0.0, odd - 0.05) * 3)
        if len(words) >= 30 and not re.search(r"[.,!?;:。，、！？।؟…\n]", text):
            score -= 0.5
    return max(0.0, score)


def _looks_like_code(text: str) -> bool:
    return len(_CODE.findall(text)) >= 2


def _parts(score: HeuristicScore) -> tuple[float, float, float, float]:
    return score.score, score.length, score.relevance, score.coherence
