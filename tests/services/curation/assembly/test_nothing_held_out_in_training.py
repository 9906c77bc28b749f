"""The promise: from splitting over drawing to the exports, nothing that is held out stands in a training record."""

import random
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.augmentation.drawing import Drawing, drawing_of
from services.augmentation.sampler import SetAssignment
from services.composition.forms import Wording, draw_wordings
from services.curation.assembly.assemble import run
from services.curation.splitting import Splitter, source_of
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.jobs import JobSpec
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.splits import HeldOut, SplitLevel, hold_out
from shared.domain.taxonomy import default_taxonomy
from shared.stages.protocol import WholeResult
from tests.services.curation.assembly.synthetic import make_context, make_spec, respond_parts, sentence
from tests.support.held_out import assert_nothing_held_out, records, training_texts

TAXONOMY = default_taxonomy()
ROWS = 360


class Job:
    """Rows as the stages before assembly leave them, where the teacher takes over what it is given word for word."""

    def __init__(self, seed: int = 11) -> None:
        self.spec: JobSpec = make_spec(seed)
        self.held_out: HeldOut = hold_out(TAXONOMY, self.spec.splits, seed)
        self._chance = random.Random(seed)
        self.rows = [self._row(number) for number in range(ROWS)]
        splitter = Splitter(TAXONOMY, self.spec, Counter(map(source_of, self.rows)))
        self.sources = splitter.sources
        for row in self.rows:
            splitter.place(row, source_of(row))
            drawing = drawing_of(TAXONOMY, self.spec, row.language, row.tags)
            sets = drawing.sampler.assign(row.draw, row.level)
            wordings = draw_wordings(seed_of(seed, row.row_id), len(sets), self.held_out, row.level)
            row.facets = [
                self._facet(index, assignment, wording, drawing, row)
                for index, (assignment, wording) in enumerate(zip(sets, wordings, strict=True))
                if assignment is not None
            ]

    def _row(self, number: int) -> InstructionRow:
        text = f"Question {number}: {sentence(self._chance, 20)}"
        [source] = self._chance.choices(["bench", "koala", "rare"], [6, 4, 1])
        return InstructionRow(row_id_of(text), text, "mix", source, number)

    def _facet(
        self, index: int, assignment: SetAssignment, wording: Wording, drawing: Drawing, row: InstructionRow
    ) -> Facet:
        preferences = list(drawing.preferences_of(assignment))
        for slot in assignment.slots:
            if slot.seed is None:
                preferences.append(self._coined(slot.dimension, preferences, drawing))
        facet = Facet(index, preferences, system_form=wording.form.name, system_role=wording.role)
        return self.written(facet)

    def _coined(self, dimension: str, beside: list[Preference], drawing: Drawing) -> Preference:
        """A preference of the teacher's own, at a pole of the taxonomy and under a name that he remembers from there, where the
        guard of augmentation lets one through."""
        offered = [(name, pole) for name, poles in drawing.choices[dimension].items() for pole in poles]
        names = [seed.name.title() for part, _, seed in TAXONOMY.seeds() if part.name == dimension]
        for subdimension, pole in [*self._chance.sample(offered, len(offered)), ("own matter", "")]:
            keywords = self._chance.choice(names) if pole else "coined"
            coined = Preference(dimension, subdimension, keywords, sentence(self._chance, 15), pole)
            taken = any(entry.subdimension == subdimension for entry in beside)
            if not taken and drawing.guard.fault([*beside, coined], []) is None:
                return coined
        raise AssertionError("the last one is always let through")

    def written(self, facet: Facet) -> Facet:
        """The facet with a system message of its role and its descriptions, and a response that repeats its wishes."""
        wishes = " ".join(f"[{entry.preference}] {entry.description}" for entry in facet.preferences)
        facet.system = f"You are {facet.system_role or 'an assistant'}. {sentence(self._chance, 60)} {wishes}"
        facet.response = f"{sentence(self._chance, 60)} {wishes}"
        return facet

    def assemble(self, folder: Path) -> tuple[WholeResult, Path]:
        inputs = respond_parts(folder / "respond", self.rows)
        context = make_context(folder, inputs, spec=self.spec, taxonomy=TAXONOMY)
        return run(context), context.output_folder


def assert_clean(job: Job, folder: Path) -> None:
    unseen = {
        "held-out source": {row.instruction for row in job.rows if source_of(row) in job.sources},
        "test": {row.instruction for row in job.rows if row.split == "test"},
    }
    assert_nothing_held_out(folder, TAXONOMY, job.held_out, unseen, answers_too=True)


@pytest.fixture(scope="module")
def job() -> Job:
    return Job()


@pytest.fixture(scope="module")
def assembled(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[WholeResult, Path]:
    return job.assemble(tmp_path_factory.mktemp("job"))


def test_training_holds_nothing_that_is_held_out(job: Job, assembled: tuple[WholeResult, Path]) -> None:
    assert_clean(job, assembled[1])


def test_what_is_drawn_within_the_rules_stays_in_training(assembled: tuple[WholeResult, Path]) -> None:
    """The sampler and composition keep to what may be drawn, so assembly finds nothing to drop."""
    summary = assembled[0].summary
    assert summary is not None
    assert summary["dropped"] == {}
    assert summary["facets"]["train/seen"] > 2.5 * summary["instructions"]["train"]


def test_test_rows_show_what_their_level_says(assembled: tuple[WholeResult, Path]) -> None:
    shown: dict[str, Counter[str]] = {}
    for record in records(assembled[1] / "collection" / "test.parquet"):
        shown.setdefault(record["assigned_level"], Counter())[record["split_level"]] += 1
    assert set(shown) == {level.value for level in SplitLevel}
    for level, found in shown.items():
        assert found[level] >= 0.95 * found.total(), (level, found)


def seed_preference(name: str, description: str = "", *, seed_name: str | None = None) -> Preference:
    """A preference at the pole of a seed of the taxonomy."""
    for dimension, subdimension, seed in TAXONOMY.seeds():
        if seed.name == name:
            return Preference(
                dimension.name,
                subdimension.name,
                seed.name if seed_name is None else "a few other words",
                description or seed.description,
                seed.pole,
                seed.name if seed_name is None else seed_name,
            )
    raise AssertionError(f"the taxonomy has no seed {name!r}")


def in_another_order(text: str) -> str:
    """The same words, in three parts from last to first."""
    words = text.rstrip(".").split()
    third = len(words) // 3
    return " ".join([*words[-third:], *words[third:-third], *words[:third]]).capitalize() + "."


class Planted:
    """A job in which facets of training rows were made to hold what they must not."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.expected: Counter[str] = Counter()
        self.responses: list[str] = []
        self._free = iter([row for row in job.rows if row.split == "train"][::3])

    def plant(self, reason: str, *preferences: Preference, **fields: Any) -> None:
        """Into the first facet of the next training row; preferences take the place of all that it had."""
        facet = next(self._free).facets[0]
        if preferences:
            facet.preferences = list(preferences)
        for name in ("system_form", "system_role"):
            setattr(facet, name, fields.get(name, getattr(facet, name)))
        self.job.written(facet)
        facet.system = f"{facet.system} {fields.get('more', '')}"
        facet.response = f"Planted response {len(self.responses)}. {facet.response}"
        self.responses.append(facet.response)
        self.expected[reason] += 1


def test_what_is_held_out_and_planted_in_training_is_dropped_and_counted(tmp_path: Path) -> None:
    job = Job()
    planted, held_out = Planted(job), job.held_out
    cells = {(sub.name, seed.pole): seed.name for _, sub, seed in TAXONOMY.seeds() if seed.name not in held_out.seeds}
    known = sorted(cells.values())
    whole = {seed.name for _, subdimension, seed in TAXONOMY.seeds() if subdimension.name in held_out.subdimensions}

    # Held-out seeds, by name and by their words in another order: in a description and in the system message.
    for name in sorted(held_out.seeds - whole)[:5]:
        description = in_another_order(seed_preference(name).description)
        planted.plant(
            "held_out_preference", seed_preference(known[0]), seed_preference(name, "Reworded beyond recognition.")
        )
        planted.plant("near_held_out", seed_preference(known[1], description))
        planted.plant("near_held_out", seed_preference(known[1], f"{sentence(random.Random(1), 20)} {description}"))
        planted.plant("near_held_out", more=description)
    # Held-out seeds by nothing but their names, under which the teacher coined something.
    for name, change in zip(sorted(held_out.seeds - whole)[5:8], (str.upper, str.title, " {} ".format), strict=True):
        remembered = msgspec.structs.replace(seed_preference(known[3], seed_name=""), preference=change(name))
        planted.plant("held_out_preference", seed_preference(known[0]), remembered)
    # A subdimension that the teacher came back to in a free slot.
    planted.plant("held_out_preference", seed_preference(min(whole), "Coined beside all of them.", seed_name=""))
    # What the teacher made of a held-out seed for a test row.
    test_row = next(row for row in job.rows if row.level == SplitLevel.UNSEEN_PREFERENCE)
    told = "Told anew by the teacher, so that the seed cannot be seen in it any more."
    for facet in test_row.facets:
        facet.preferences = [
            msgspec.structs.replace(entry, description=told) if entry.seed_name in held_out.seeds else entry
            for entry in facet.preferences
        ]
        job.written(facet)
    planted.plant("near_held_out", seed_preference(known[2], in_another_order(told)))
    # The system message of a test row whose wording is to be unseen.
    worded = next(row for row in job.rows if row.level == SplitLevel.UNSEEN_WORDING)
    planted.plant("near_held_out", more=worded.facets[0].system)
    # Pairs, a combination, forms and roles.
    for pair in sorted(map(sorted, held_out.pairs))[:5]:
        planted.plant("held_out_pair", *(seed_preference(cells[cell]) for cell in pair))
    combination = next(
        three
        for three in combinations(sorted(cells), 3)
        if len({cell[0] for cell in three}) == 3 and held_out.holds_combination(three) and not held_out.has_pair(three)
    )
    planted.plant("held_out_combination", *(seed_preference(cells[cell]) for cell in combination))
    for form in sorted(held_out.forms):
        planted.plant("held_out_wording", system_form=form)
    for role in sorted(held_out.roles):
        planted.plant("held_out_wording", system_role=role)

    result, folder = job.assemble(tmp_path)
    assert result.summary is not None
    assert result.summary["dropped"] == planted.expected == result.ledger.reasons
    assert_clean(job, folder)
    texts = training_texts(folder)
    for response in planted.responses:
        assert not [name for name, found in texts.items() if response in found]
