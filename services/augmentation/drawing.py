"""All that drawing the preference sets of a job's rows needs, made once per job and process."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from services.augmentation.careful import CarefulGuard
from services.augmentation.catalogue import Catalogue, catalogue_of
from services.augmentation.held_out_seeds import HeldOutSeeds
from services.augmentation.sampler import QuotaSampler, SetAssignment, SetSampler
from services.augmentation.validation import TrainingGuard
from shared.domain.containment import HeldOutTexts
from shared.domain.jobs import JobSpec, SplitParameters
from shared.domain.rows import HARMFUL_INTENT_TAG, Preference
from shared.domain.splits import HeldOut, hold_out
from shared.domain.taxonomy import Taxonomy


class Drawing(msgspec.Struct, frozen=True):
    """`known`: pole names by subdimension, by dimension; `choices`: the same without what is held out, which is what the
    teacher is shown for a free slot. `careful` is there for instructions with harmful intent, and `known` is then without the
    frank poles."""

    sampler: SetSampler
    guard: TrainingGuard
    held_out: HeldOut
    held_out_seeds: HeldOutSeeds
    known: Mapping[str, Mapping[str, Sequence[str]]]
    choices: Mapping[str, Mapping[str, Sequence[str]]]
    careful: CarefulGuard | None = None

    def choices_of(self, assignment: SetAssignment, dimension: str) -> dict[str, list[str]]:
        """What a free slot of the set may belong to: nothing that the set has, no pole that is held out beside its others."""
        cells = [(seed.subdimension, seed.pole) for seed in assignment.seeds]
        taken = {cell[0] for cell in cells}
        left = {
            name: [pole for pole in poles if not any(self.held_out.holds_pair((name, pole), cell) for cell in cells)]
            for name, poles in self.choices[dimension].items()
            if name not in taken
        }
        return {name: poles for name, poles in left.items() if poles}

    def preferences_of(self, assignment: SetAssignment) -> tuple[Preference, ...]:
        """The preferences of a persistent person: the seeds as the taxonomy words them, whatever the instruction."""
        return tuple(
            Preference(
                dimension=slot.dimension,
                subdimension=slot.seed.subdimension,
                preference=slot.seed.name,
                description=" ".join(filter(None, (slot.seed.description, slot.seed.check_sentence))),
                pole=slot.seed.pole,
                seed_name=slot.seed.name,
                check=slot.seed.check,
                intensity=slot.intensity,
            )
            for slot in assignment.slots
            if slot.seed is not None
        )


_Key = tuple[str, SplitParameters, str, int, bool, bool]
_KEPT = 8
_kept: OrderedDict[_Key, Drawing] = OrderedDict()


def drawing_of(taxonomy: Taxonomy, spec: JobSpec, language: str, tags: Sequence[str]) -> Drawing:
    """What the rows of a job with that language and those tags are drawn by; the 8 asked for last are kept."""
    own_language = language == taxonomy.language
    careful_only = HARMFUL_INTENT_TAG in tags
    augment = spec.augment
    key = (taxonomy.version, spec.splits, augment.model_dump_json(), spec.seed, own_language, careful_only)
    found = _kept.get(key)
    if found is None:
        catalogue = catalogue_of(taxonomy, language, careful_only=careful_only)
        careful = CarefulGuard(taxonomy) if careful_only else None
        found = _drawing(catalogue, taxonomy, hold_out(taxonomy, spec.splits, spec.seed), spec, careful)
        _kept[key] = found
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return found


def _drawing(
    catalogue: Catalogue, taxonomy: Taxonomy, held_out: HeldOut, spec: JobSpec, careful: CarefulGuard | None
) -> Drawing:
    texts = [seed.description for _, _, seed in taxonomy.seeds() if seed.name in held_out.seeds]
    known = {
        dimension.name: {
            subdimension.name: [
                pole.name
                for pole in subdimension.poles
                if careful is None or not careful.is_frank(subdimension.name, pole.name)
            ]
            for subdimension in dimension.subdimensions
        }
        for dimension in taxonomy.dimensions
    }
    offered = {cell.subdimension for cells in catalogue.cells.values() for cell in cells} - held_out.subdimensions
    choices = {
        dimension: {
            name: [cell.pole for cell in catalogue.cells[dimension] if cell.subdimension == name]
            for name in subdimensions
            if name in offered
        }
        for dimension, subdimensions in known.items()
    }
    # People who come back are the same in every language class that can hold all of their wishes: the job's own.
    plain = all(not cell.guarded for cells in catalogue.cells.values() for cell in cells)
    own = catalogue is catalogue_of(taxonomy)
    return Drawing(
        sampler=QuotaSampler(catalogue, held_out, spec.augment, spec.seed, profiles=plain and own),
        held_out=held_out,
        held_out_seeds=HeldOutSeeds(taxonomy, held_out),
        guard=TrainingGuard(held_out, HeldOutTexts(texts, spec.splits.maximum_containment)),
        known=known,
        choices=choices,
        careful=careful,
    )
