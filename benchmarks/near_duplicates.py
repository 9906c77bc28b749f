"""Near-duplicate removal of many instructions: time, memory, and recall and precision on planted pairs.

    python benchmarks/near_duplicates.py [texts]

Texts are drawn from a Zipf-like vocabulary with set phrases that many share (as instructions do), 5 to 120 words. One in
ten is a planted copy with a few words changed; the truth is the exact Jaccard index of word 3-gram sets, computed apart
with plain Python sets. Half of the copies are edited so much that they lie under the threshold: removing them is an error.
"""

import argparse
import random
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from services.curation.near_duplicates import NearDuplicates
from shared.overlap.shingles import words_and_signs_of

THRESHOLD = 0.8
OPENINGS = (
    "Write a short story about", "Explain in simple words how", "Give me a list of ten ideas for",
    "What is the difference between",
    "Translate the following sentence into French:", "Summarise the following text in three sentences:", "How do I",
    "Write a Python function that takes a list of numbers and returns", "I have a question about",
)  # fmt: skip


def jaccard(first: str, second: str) -> float:
    """Exact Jaccard index of the sets of word 3-grams, written apart from the code under test."""
    sets = []
    for text in (first, second):
        words = words_and_signs_of(text)
        sets.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def texts_with_planted(count: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """(texts, planted pairs of (original, copy))."""
    chance = random.Random(seed)
    vocabulary = [f"{chance.choice('bcdfglmnprst')}{chance.choice('aeiou')}{index:x}" for index in range(50_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    pool = chance.choices(vocabulary, weights, k=4_000_000)
    copies = count // 10
    texts = []
    for _ in range(count - copies):
        start = chance.randrange(len(pool) - 200)
        length = min(120, 5 + int(chance.expovariate(1 / 30)))
        texts.append(f"{chance.choice(OPENINGS)} {' '.join(pool[start : start + length])}")
    texts = [f"{text} {index:x}" for index, text in enumerate(texts)]
    pairs = []
    for copy in range(copies):
        original = chance.randrange(count - copies)
        words = texts[original].split()
        changes = max(1, len(words) // 40) if copy % 2 else max(1, len(words) // 6)
        for _ in range(changes):
            words[chance.randrange(len(words))] = chance.choice(vocabulary)
        pairs.append((original, len(texts)))
        texts.append(" ".join(words))
    return texts, pairs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", type=int, nargs="?", default=200_000)
    count = parser.parse_args().texts
    texts, pairs = texts_with_planted(count, seed=7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    near = NearDuplicates(THRESHOLD)
    near.add(texts)
    removed = near.find()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    truly = [(original, copy) for original, copy in pairs if jaccard(texts[original], texts[copy]) >= THRESHOLD]
    found = sum(copy in removed for _, copy in truly)
    right = sum(jaccard(texts[match.kept], texts[text]) >= THRESHOLD for text, match in removed.items())
    print(
        f"texts                      {count:,}, planted copies {len(pairs):,}, of these over the threshold {len(truly):,}"
    )
    print(f"seconds                    {seconds:.1f}")
    print(f"peak memory                {peak:.0f} MB ({before:.0f} MB of it the texts themselves)")
    print(f"removed                    {len(removed):,}")
    print(f"recall                     {found / len(truly):.4f}")
    print(f"precision                  {right / len(removed):.4f}")


if __name__ == "__main__":
    main()
