import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.inference.cpu_server.engine.random_numbers import seed_word, uniforms


def _drawn(pairs: list[tuple[int, int]]) -> list[float]:
    seeds, counts = (np.array(values, dtype=np.uint64) for values in zip(*pairs, strict=True))
    return uniforms(seeds, counts).tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40)), min_size=1, max_size=20))
def test_a_number_depends_on_its_own_seed_and_count_alone(pairs: list[tuple[int, int]]) -> None:
    together = _drawn(pairs)
    assert together == [_drawn([pair])[0] for pair in pairs]
    assert all(0 <= number < 1 for number in together)


def test_numbers_of_one_seed_and_of_neighbouring_seeds_are_spread_evenly_and_unrelated() -> None:
    table = np.array([_drawn([(seed, count) for count in range(200)]) for seed in range(200)])
    counts, _ = np.histogram(table, bins=20, range=(0, 1))
    assert counts.min() > 1800
    assert counts.max() < 2200
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(table[:-1, 1:].ravel(), table[1:, :-1].ravel())[0, 1]) < 0.02


def test_seeds_of_any_size_and_sign_become_words() -> None:
    assert seed_word(-1) == 2**64 - 1
    assert seed_word(2**64 + 5) == 5
