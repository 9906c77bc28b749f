"""Time and memory of the statistics of an evaluation, and how often their intervals hold the truth.

    python -m benchmarks.evaluation_statistics [--judgments 100000] [--battles 50000] [--coverage REPEATS]

Judgments are made up: ten grades an instruction, grades of one instruction alike, ten groups (answers). Battles are between 20
models of known strength, 50 an instruction, with lengths and three counts of Markdown. `--coverage` draws samples whose truth is
known and counts the intervals of nominal 95% that hold it; it takes minutes.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from scipy.special import expit

from shared.statistics.agreement import cohen_kappa_interval, krippendorff_alpha_interval
from shared.statistics.bootstrap import bootstrap_difference, bootstrap_means
from shared.statistics.intervals import Interval, Numbers
from shared.statistics.length_control import length_controlled_win_rate
from shared.statistics.pairwise import Battle, win_rate
from shared.statistics.ratings import SCALE, bradley_terry

MODELS = 20
PER_INSTRUCTION = 10
GROUPS = 10
BATTLES_PER_INSTRUCTION = 50
ROUNDS = 1000
RATING_ROUNDS = 100


def made_up_grades(judgments: int, seed: int = 1) -> tuple[Numbers, list[str], list[str]]:
    """Grades, the instruction of each, and the group of each."""
    generator = np.random.default_rng(seed)
    number = np.arange(judgments)
    instruction = number // PER_INSTRUCTION
    hard = generator.normal(size=instruction[-1] + 1)[instruction]
    grades = np.clip(np.round(3.5 + 0.6 * hard + 0.6 * generator.normal(size=judgments)), 1, 5)
    return grades, [f"i{place}" for place in instruction], [f"answer {place % GROUPS}" for place in number]


def made_up_battles(battles: int, strengths: Numbers, seed: int = 2) -> list[Battle]:
    """Battles of random pairs of models with those strengths (logits); length counts for half a logit."""
    generator = np.random.default_rng(seed)
    first = generator.integers(len(strengths), size=battles)
    second = (first + generator.integers(1, len(strengths), size=battles)) % len(strengths)
    words = generator.integers(50, 400, size=(battles, 2))
    marks = generator.poisson(2, size=(battles, 2, 3)).astype(float)
    style = (words[:, 0] - words[:, 1]) / (words.sum(axis=1) + 1)
    wins = generator.random(battles) < expit(strengths[first] - strengths[second] + 0.5 * style)
    ties = generator.random(battles) < 0.1
    return [
        Battle(
            f"i{number // BATTLES_PER_INSTRUCTION}",
            f"m{first[number]}",
            f"m{second[number]}",
            0.5 if ties[number] else float(wins[number]),
            first_words=int(words[number, 0]),
            second_words=int(words[number, 1]),
            first_style=tuple(marks[number, 0]),
            second_style=tuple(marks[number, 1]),
        )
        for number in range(battles)
    ]


def made_up_duel(pairs: int, seed: int = 3) -> list[Battle]:
    """Two models, a pair of answers an instruction: logits of 0.3 for the first model, and 1 for length, of which it has more."""
    generator = np.random.default_rng(seed)
    longer = np.round(generator.normal(40, 100, size=pairs)).astype(int)
    spread = float(np.sqrt(40**2 + 100**2))
    wins = generator.random(pairs) < expit(0.3 + np.tanh(longer / spread))
    return [
        Battle(f"i{number}", "ours", "theirs", float(wins[number]), first_words=1000 + int(by), second_words=1000)
        for number, by in enumerate(longer)
    ]


def _timed(what: str, goal: str, work: Callable[[], object]) -> None:
    start, used = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    print(f"| {what} | {seconds:.2f} | {processor:.2f} | {_peak():.0f} | {goal} |", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(judgments: int, battles: int) -> None:
    """The table of times."""
    grades, instructions, groups = made_up_grades(judgments)
    fights = made_up_battles(battles, np.linspace(-1.5, 1.5, MODELS))
    duel = made_up_duel(judgments // PER_INSTRUCTION)
    labels = np.random.default_rng(4).integers(3, size=(judgments // PER_INSTRUCTION, 3)).tolist()
    print(f"Peak memory before: {_peak():.0f} MB\n")
    print("| figure | s | CPU s | peak MB | goal |\n|---|---|---|---|---|")
    _timed(
        f"means of {GROUPS} groups, {judgments:,} grades of {judgments // PER_INSTRUCTION:,} instructions, {ROUNDS:,} rounds",
        "5 s",
        lambda: bootstrap_means(grades, instructions, groups, rounds=ROUNDS),
    )
    half = judgments // 2
    _timed(
        f"difference of two means, {half:,} grades each, {ROUNDS:,} rounds",
        "",
        lambda: bootstrap_difference(
            grades[:half], instructions[:half], grades[half:], instructions[:half], rounds=ROUNDS
        ),
    )
    _timed(f"win rate, {len(duel):,} pairs, {ROUNDS:,} rounds", "", lambda: win_rate(duel, rounds=ROUNDS))
    _timed(
        f"win rate at equal length, {len(duel):,} pairs, {ROUNDS:,} rounds",
        "",
        lambda: length_controlled_win_rate(duel, rounds=ROUNDS),
    )
    _timed(
        f"ratings of {MODELS} models, {battles:,} battles, {RATING_ROUNDS} rounds",
        "30 s",
        lambda: bradley_terry(fights, rounds=RATING_ROUNDS),
    )
    _timed(
        f"the same under control of length and three counts of Markdown, {RATING_ROUNDS} rounds",
        "30 s",
        lambda: bradley_terry(fights, rounds=RATING_ROUNDS, style=True),
    )
    _timed(
        f"Krippendorff's alpha, {len(labels):,} items, 3 annotators, {ROUNDS:,} rounds",
        "",
        lambda: krippendorff_alpha_interval(labels, rounds=ROUNDS),
    )


def _holds(found: Interval, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def _mean(instructions: int, seed: int) -> bool:
    generator = np.random.default_rng(seed)
    grades = np.repeat(generator.normal(size=instructions), 4) + generator.normal(size=instructions * 4)
    return _holds(bootstrap_means(grades, np.repeat(np.arange(instructions), 4), seed=seed)[None], 0.0)


def _difference(instructions: int, seed: int) -> bool:
    generator = np.random.default_rng(seed)
    hard, names = generator.normal(size=instructions), list(range(instructions))
    one, other = (hard + 0.5 * generator.normal(size=instructions) for _ in range(2))
    return _holds(bootstrap_difference(one, names, other, names, seed=seed), 0.0)


def _win_rate(instructions: int, seed: int) -> bool:
    generator = np.random.default_rng(seed)
    found = [Battle(str(n), "a", "b", float(one)) for n, one in enumerate(generator.random(instructions) < 0.3)]
    return _holds(win_rate(found, seed=seed).interval, 0.3)


def _at_equal_length(instructions: int, seed: int) -> bool:
    return _holds(
        length_controlled_win_rate(made_up_duel(instructions, seed), rounds=300, seed=seed), float(expit(0.3))
    )


def _rating(instructions: int, seed: int) -> bool:
    """Of the best of four models; `instructions` with four battles each."""
    generator = np.random.default_rng(seed)
    strengths = np.array([-0.6, -0.1, 0.1, 0.6])
    fights = []
    for number in range(instructions * 4):
        one, other = generator.choice(4, 2, replace=False)
        won = generator.random() < expit(strengths[one] - strengths[other])
        fights.append(Battle(str(number // 4), f"m{one}", f"m{other}", float(won)))
    best = next(one for one in bradley_terry(fights, rounds=RATING_ROUNDS, seed=seed).models if one.model == "m3")
    return _holds(best.rating, 1000 + SCALE * 0.6)


def _kappa(items: int, seed: int) -> bool:
    """Two raters who see the same normal value, each with noise of the same size, and say whether it is above 0."""
    generator = np.random.default_rng(seed)
    seen = generator.normal(size=items) + generator.normal(size=(2, items))
    labels = (seen > 0).astype(int)
    # Of two normal values with correlation 1/2, both have the same sign with probability 1/2 + arcsin(1/2) / pi.
    same = 0.5 + np.arcsin(0.5) / np.pi
    truth = (same - 0.5) / 0.5
    return _holds(cohen_kappa_interval(labels[0].tolist(), labels[1].tolist(), seed=seed), float(truth))


COVERAGES: dict[str, Callable[[int, int], bool]] = {
    "mean, 4 grades an instruction": _mean,
    "difference of two means, paired": _difference,
    "win rate of 30%": _win_rate,
    "win rate at equal length": _at_equal_length,
    "rating of the best of 4 models": _rating,
    "Cohen's kappa of 1/3": _kappa,
}
SIZES = (20, 50, 100, 300)


def coverage(name: str, clusters: int, repeats: int) -> float:
    """Share of nominal 95% intervals over so many instructions (or items) that hold the truth. Each sample has its own draws,
    else all would share the chance of one set of them."""
    return sum(COVERAGES[name](clusters, 1000 + seed) for seed in range(repeats)) / repeats


def _coverages(repeats: int) -> None:
    error = (0.95 * 0.05 / repeats) ** 0.5
    print(f"\n{repeats} samples a cell, standard error {error:.1%}; nominal 95%\n")
    print("| figure | " + " | ".join(f"{size} clusters" for size in SIZES) + " |\n|---|" + "---|" * len(SIZES))
    for name in COVERAGES:
        cells = [f"{coverage(name, size, repeats):.1%}" for size in SIZES]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation_statistics", description=__doc__)
    parser.add_argument("--judgments", type=int, default=100_000)
    parser.add_argument("--battles", type=int, default=50_000)
    parser.add_argument("--coverage", type=int, metavar="REPEATS", help="also how often intervals hold the truth")
    options = parser.parse_args()
    measure(options.judgments, options.battles)
    if options.coverage:
        _coverages(options.coverage)


if __name__ == "__main__":
    main()
