"""Which slot a prompt gets, and what of the KV cache it reuses."""

from __future__ import annotations

import random

from lqmf_runner.engine.worker.cache.slots import SlotTable, common_prefix


def table(*contents: list[int]) -> SlotTable:
    """Idle slots with these tokens in their cache, used in this order."""
    made = SlotTable(len(contents))
    for slot, tokens in zip(made.slots, contents, strict=True):
        made.take(slot)
        slot.tokens = list(tokens)
        made.release(slot)
    return made


def test_the_common_prefix_of_lists_that_part_anywhere() -> None:
    rng = random.Random(0)
    for _ in range(300):
        same = [rng.randrange(9) for _ in range(rng.randrange(200))]
        a = same + [1] * rng.randrange(100)
        b = same + [2] * rng.randrange(100)
        plain = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert common_prefix(a, b) == plain


def test_no_slot_while_all_are_busy() -> None:
    slots = SlotTable(2)
    for slot in slots.slots:
        slots.take(slot)
    assert slots.place([1, 2], reuse=True) is None
    slots.release(slots.slots[1])
    placement = slots.place([1, 2], reuse=True)
    assert placement is not None
    assert placement.slot is slots.slots[1]


def test_the_slot_with_the_longest_common_prefix_is_taken_over() -> None:
    slots = table([1, 2, 3], [1, 2, 3, 4, 5], [9])
    placement = slots.place([1, 2, 3, 4, 5, 6, 7], reuse=True)
    assert placement is not None
    assert (placement.slot.index, placement.donor.index, placement.shared) == (1, 1, 5)


def test_the_last_two_tokens_of_a_prompt_are_always_computed() -> None:
    slots = table([1, 2, 3])
    placement = slots.place([1, 2, 3], reuse=True)
    assert placement is not None
    assert placement.shared == 1
    single = table([1]).place([1], reuse=True)
    assert single is not None
    assert single.shared == 0


def test_a_long_conversation_is_not_given_up_for_a_short_shared_beginning() -> None:
    slots = table([7], [1, 2, *range(100, 140)])
    placement = slots.place([1, 2, 3, 4], reuse=True)
    assert placement is not None
    assert (placement.donor.index, placement.slot.index, placement.shared) == (1, 0, 2)


def test_a_busy_slot_gives_a_copy() -> None:
    slots = table([1, 2, 3, 4], [])
    slots.take(slots.slots[0])
    placement = slots.place([1, 2, 3, 4, 5, 6], reuse=True)
    assert placement is not None
    assert (placement.donor.index, placement.slot.index, placement.shared) == (0, 1, 4)


def test_without_reuse_nothing_is_shared() -> None:
    placement = table([1, 2, 3]).place([1, 2, 3, 4], reuse=False)
    assert placement is not None
    assert placement.shared == 0


def test_of_unrelated_slots_the_one_idle_longest_is_overwritten() -> None:
    slots = table([1], [2], [3])
    slots.take(slots.slots[0])
    slots.release(slots.slots[0])
    placement = slots.place([9, 9], reuse=True)
    assert placement is not None
    assert placement.slot.index == 1
