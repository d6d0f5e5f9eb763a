"""Corrects typing errors to words that are known."""

from __future__ import annotations

from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA


def words_of(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


ENGLISH = words_of(
    """
    another art bath beach beast beat best bet better bill bitter boast book boot branch broad bull bunch butter
    buy cast catch chap chart cheat chose clever clothes cluster coat companies company compass concert congress
    convey cook cost covert crop delete deleted deport deserve dinner drip east easter edit elect ever every evil
    exist exists export express fast faster father fee fever fill find fist food foster friend full ghost goad
    guest half hall heap hear heart held hell here hill hook host hurt hurts import inject install invert kelp
    kick knew know last later latest launder lead leaf least leaves letter lever life lift list live lives loan
    look loose lord lost loud lounge lunch mask master match matter medal mill mist mode modem mood most motel
    movie munch mystery nerve nest never observe other oven overload pack part past pasta paste patch phone pill
    pleasure poll post poster prop punch push quiet quite rather recommence reject relapse relief reload remote
    removed rename repost reserve resort rest ring road roast root salt send serves severe shop shot shut sing
    skill slow smaller smart smoke snow star stare stars starts state states statue step steps sting stock stomp
    stories story string suit tale talks tall taller task test text that there toad toast took top train
    training tread treasure tree tune tuning upload vast vest walk watch water wear weather were west where
    whether wing wrist year yelp
    """
)
"""English words that are one or two letters from a word of the lexicon, and mean something else."""

_WORST = {3: 1, 4: 1, 5: 1}


def correct(word: str, known: Iterable[str]) -> tuple[str, float] | None:
    """The known word that is closest to one with a typing error, and how alike they are (0 to 1).

    One letter may be missing, added, wrong or swapped with its neighbour; in words of six letters two.
    """
    if len(word) < 3 or word in ENGLISH or not word.isascii():
        return None
    worst = _WORST.get(len(word), 2)
    targets = [target for target in known if len(target) >= max(4, len(word) - worst) and target[0].isalpha()]
    near = process.extract(word, targets, scorer=OSA.distance, score_cutoff=worst, limit=None)
    if not near:
        return None
    target, distance, _ = min(near, key=lambda found: (found[1], -len(found[0]), found[0][0] != word[0]))
    return target, 1.0 - float(distance) / max(len(word), len(target))
