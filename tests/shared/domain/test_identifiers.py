"""Identifiers: unique, sortable, and the same on every machine where they must be."""

import json
import re
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.identifiers import named_identifiers, new_id, row_id_of, seed_of

_plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), max_size=20)


def test_ids_are_readable_and_unique() -> None:
    ids = [new_id("job") for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"job_[0-9a-z]{26}", value) for value in ids)


def test_the_ids_that_a_spec_names_are_found_wherever_they_stand() -> None:
    kinds = ("bench", "file", "job", "model")
    ids = {kind: new_id(kind) for kind in kinds}
    text = json.dumps({"a": [{"b": ids["file"]}, ids["job"]], "c": {"d": ids["model"], "e": f"of {new_id('job')}"}})
    assert named_identifiers(text) == {ids["file"], ids["job"], ids["model"]}
    assert named_identifiers(json.dumps([ids["bench"], new_id("step"), "job_short"])) == {ids["bench"]}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_row_id_depends_on_the_instruction_alone(text: str) -> None:
    assert row_id_of(text) == sha256(text.encode()).hexdigest()[:16]


@given(
    st.lists(_plain | st.integers(), min_size=1, max_size=4), st.lists(_plain | st.integers(), min_size=1, max_size=4)
)
def test_seeds_differ_exactly_where_their_parts_do(a: list[object], b: list[object]) -> None:
    assert 0 <= seed_of(*a) < 2**63
    assert (seed_of(*a) == seed_of(*b)) == ([str(part) for part in a] == [str(part) for part in b])


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert seed_of("augment", 7) == int.from_bytes(sha256(b"augment\x1f7").digest()[:8], "big") >> 1
