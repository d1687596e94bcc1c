import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.domain.audit import GENESIS, Checkpoint, Entry, chained, entry_hash, prove, verify
from pipelines.errors import Undecided

Tampering = Callable[[list[Entry]], list[Entry]]


def chain(count: int, actor: str = "alice") -> list[Entry]:
    entries: list[Entry] = []
    for number in range(count):
        previous = Checkpoint(entries[-1].seq, entries[-1].hash) if entries else None
        unplaced = Entry(
            0, f"2026-01-0{number + 1}", actor, "promotion", "intent", f"p-{number}", {"n": number}, "", ""
        )
        entries.append(chained(previous, unplaced))
    return entries


def checkpoints(entries: list[Entry]) -> list[Checkpoint]:
    return [Checkpoint(entry.seq, entry.hash) for entry in entries]


def rechained(entries: list[Entry]) -> list[Entry]:
    """Rewrite the numbers and hashes of edited entries, as the owner of the database can."""
    fresh: list[Entry] = []
    for entry in entries:
        fresh.append(chained(Checkpoint(fresh[-1].seq, fresh[-1].hash) if fresh else None, entry))
    return fresh


def update(entries: list[Entry]) -> list[Entry]:
    entries[2] = dataclasses.replace(entries[2], actor="bob")
    return entries


def update_with_its_hash(entries: list[Entry]) -> list[Entry]:
    forged = dataclasses.replace(entries[2], detail={"n": 99})
    entries[2] = dataclasses.replace(forged, hash=entry_hash(forged))
    return entries


def delete_first(entries: list[Entry]) -> list[Entry]:
    return entries[1:]


def delete_middle(entries: list[Entry]) -> list[Entry]:
    return entries[:2] + entries[3:]


def delete_middle_and_renumber(entries: list[Entry]) -> list[Entry]:
    kept = entries[:2] + entries[3:]
    return [dataclasses.replace(entry, seq=seq) for seq, entry in enumerate(kept, start=1)]


def delete_last(entries: list[Entry]) -> list[Entry]:
    return entries[:-1]


def delete_all(entries: list[Entry]) -> list[Entry]:
    return []


def swap(entries: list[Entry]) -> list[Entry]:
    entries[1], entries[2] = entries[2], entries[1]
    return entries


def swap_contents(entries: list[Entry]) -> list[Entry]:
    second, third = entries[1], entries[2]
    entries[1] = dataclasses.replace(third, seq=2)
    entries[2] = dataclasses.replace(second, seq=3)
    return entries


def rewrite_from_the_third(entries: list[Entry]) -> list[Entry]:
    return rechained(update(entries))


def rewrite_all(entries: list[Entry]) -> list[Entry]:
    return chain(len(entries), actor="mallory")


def restore_old_backup_and_go_on(entries: list[Entry]) -> list[Entry]:
    other = dataclasses.replace(entries[3], subject="p-other")
    return rechained([*entries[:3], other, *entries[4:]])


@pytest.mark.parametrize(
    ("tamper", "first_bad"),
    [
        (update, 3),
        (update_with_its_hash, 4),
        (delete_first, 1),
        (delete_middle, 3),
        (delete_middle_and_renumber, 3),
        (delete_last, 5),
        (delete_all, 1),
        (swap, 2),
        (swap_contents, 2),
        (rewrite_from_the_third, 3),
        (rewrite_all, 1),
        (restore_old_backup_and_go_on, 4),
    ],
)
def test_verify_names_the_first_bad_entry_of_a_tampered_chain(tamper: Tampering, first_bad: int) -> None:
    entries = chain(5)
    outside = checkpoints(entries)

    checked = verify(tamper(list(entries)), outside)

    assert not checked.valid
    assert checked.first_bad == first_bad
    assert str(first_bad) in checked.detail or checked.detail.startswith("the chain ends")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Entry)])
def test_verify_sees_a_change_of_every_field(field: str) -> None:
    entries = chain(3)
    changed: dict[str, Any] = {"seq": 9, "detail": {"n": "1"}}
    entries[1] = dataclasses.replace(entries[1], **{field: changed.get(field, "changed")})

    assert verify(entries, []).first_bad == 2


@pytest.mark.parametrize("tamper", [delete_last, rewrite_all])
def test_only_the_outside_heads_show_a_shortened_or_rewritten_chain(tamper: Tampering) -> None:
    entries = chain(4)

    assert verify(tamper(list(entries)), []).valid
    assert not verify(tamper(list(entries)), checkpoints(entries)).valid


def test_verify_names_the_earliest_rewritten_entry_when_heads_were_exported_out_of_order() -> None:
    entries = chain(5)
    outside = checkpoints(entries)

    checked = verify(rewrite_from_the_third(list(entries)), [outside[4], outside[3], outside[2], outside[0]])

    assert checked.first_bad == 3


def test_verify_accepts_an_untouched_chain_with_some_of_its_heads() -> None:
    entries = chain(5)

    checked = verify(entries, [checkpoints(entries)[1], checkpoints(entries)[4]])

    assert (checked.valid, checked.entries, checked.first_bad) == (True, 5, None)


def test_verify_accepts_entries_newer_than_the_last_head() -> None:
    entries = chain(5)

    assert verify(entries, checkpoints(entries)[:3]).valid


def test_verify_accepts_an_empty_chain_without_heads() -> None:
    assert verify([], []).valid


def test_a_chain_without_any_of_its_heads_is_proven_by_nothing() -> None:
    entries = chain(4)

    with pytest.raises(Undecided, match="the 4 entries follow one another, but no checkpoint"):
        prove(entries, [])
    assert prove(entries, checkpoints(entries)[:1]).valid
    assert prove([], []).valid
    # What does not hold by itself needs no checkpoint to be found.
    assert prove(entries[1:], []).first_bad == 1


def test_the_first_entry_follows_the_genesis() -> None:
    first = chain(1)[0]

    assert (first.seq, first.prev_hash) == (1, GENESIS)


def test_a_hash_can_not_be_moved_between_fields() -> None:
    one = Entry(1, "t", "ab", "c", "intent", "s", {}, GENESIS, "")
    other = Entry(1, "t", "a", "bc", "intent", "s", {}, GENESIS, "")

    assert entry_hash(one) != entry_hash(other)
