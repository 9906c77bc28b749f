"""A taxonomy prepared for sampling: cells (one pole of one subdimension), their seeds, and which seeds exclude each other."""

import msgspec

from shared.domain.checks import canonical_sentence, conflict, validate_check
from shared.domain.rows import Check
from shared.domain.taxonomy import SeedPreference, Taxonomy


class Seed(msgspec.Struct, frozen=True):
    """One seed preference. `number` is its position in the catalogue."""

    number: int
    name: str
    description: str
    dimension: str
    subdimension: str
    pole: str
    pole_description: str
    check: Check | None
    check_sentence: str | None
    opposite_names: frozenset[str]
    """Case-folded names of the other poles of the subdimension and of the seeds on them: what this one must not be called."""


class Cell(msgspec.Struct, frozen=True):
    """One pole of one subdimension, with its seeds."""

    subdimension: str
    pole: str
    seeds: tuple[Seed, ...]

    @property
    def key(self) -> tuple[str, str]:
        return (self.subdimension, self.pole)


class Catalogue(msgspec.Struct, frozen=True):
    """All cells by dimension, in the taxonomy's order. `conflicts[n]` is a bit mask over seed numbers."""

    dimensions: tuple[str, ...]
    cells: dict[str, tuple[Cell, ...]]
    seeds: tuple[Seed, ...]
    conflicts: tuple[int, ...]

    def excludes(self, first: Seed, second: Seed) -> bool:
        """Whether the two cannot stand in one set."""
        return bool(self.conflicts[first.number] >> second.number & 1)


def build_catalogue(taxonomy: Taxonomy) -> Catalogue:
    """The catalogue of a taxonomy.

    Two seeds exclude each other when either names the other in `conflicts_with` or when no text can pass both their machine
    checks. Raises ValueError for a check that `shared.domain.checks` does not know (a parsed taxonomy has none).
    """
    seeds: list[Seed] = []
    stated: list[SeedPreference] = []
    cells: dict[str, tuple[Cell, ...]] = {}
    for dimension in taxonomy.dimensions:
        of_dimension: list[Cell] = []
        for subdimension in dimension.subdimensions:
            for pole in subdimension.poles:
                opposite = {other.name.casefold() for other in subdimension.poles if other.name != pole.name}
                opposite |= {seed.name.casefold() for seed in subdimension.seeds if seed.pole != pole.name}
                of_cell: list[Seed] = []
                for seed in subdimension.seeds:
                    if seed.pole != pole.name:
                        continue
                    check = validate_check(seed.check.kind, seed.check.parameters) if seed.check else None
                    prepared = Seed(
                        number=len(seeds),
                        name=seed.name,
                        description=seed.description,
                        dimension=dimension.name,
                        subdimension=subdimension.name,
                        pole=pole.name,
                        pole_description=pole.description,
                        check=check,
                        check_sentence=canonical_sentence(check) if check else None,
                        opposite_names=frozenset(opposite),
                    )
                    of_cell.append(prepared)
                    seeds.append(prepared)
                    stated.append(seed)
                if of_cell:
                    of_dimension.append(Cell(subdimension.name, pole.name, tuple(of_cell)))
        cells[dimension.name] = tuple(of_dimension)
    return Catalogue(tuple(cells), cells, tuple(seeds), _conflicts(seeds, stated))


def _conflicts(seeds: list[Seed], stated: list[SeedPreference]) -> tuple[int, ...]:
    masks = [0] * len(seeds)
    for first in seeds:
        for second in seeds[first.number + 1 :]:
            excluded = (
                second.name in stated[first.number].conflicts_with
                or first.name in stated[second.number].conflicts_with
                or (first.check and second.check and conflict(first.check, second.check) is not None)
            )
            if excluded:
                masks[first.number] |= 1 << second.number
                masks[second.number] |= 1 << first.number
    return tuple(masks)


_MAXIMUM_KEPT = 16
_kept: dict[str, Catalogue] = {}


def catalogue_of(taxonomy: Taxonomy) -> Catalogue:
    """The catalogue of a taxonomy, built once per version and process (the 16 built last are kept)."""
    version = taxonomy.version
    catalogue = _kept.get(version)
    if catalogue is None:
        catalogue = build_catalogue(taxonomy)
        while len(_kept) >= _MAXIMUM_KEPT:
            del _kept[next(iter(_kept))]
        _kept[version] = catalogue
    return catalogue
