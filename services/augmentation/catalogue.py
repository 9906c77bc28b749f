"""A taxonomy prepared for sampling: cells (one pole of one subdimension), their seeds, and which seeds exclude each other."""

import msgspec

from shared.domain.checks import canonical_sentence, conflict, presumes_language, validate_check
from shared.domain.rows import Check
from shared.domain.taxonomy import SeedPreference, Subdimension, Taxonomy, seed_check


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
    guarded: bool = False
    """Whether its subdimension must not be mirrored: of an instruction with harmful intent."""

    @property
    def key(self) -> tuple[str, str]:
        return (self.subdimension, self.pole)


class Catalogue(msgspec.Struct, frozen=True):
    """All cells by dimension, in the taxonomy's order. `conflicts[n]` is a bit mask over seed numbers; `seeds_only` are the
    dimensions in which the teacher may coin nothing."""

    dimensions: tuple[str, ...]
    cells: dict[str, tuple[Cell, ...]]
    seeds: tuple[Seed, ...]
    conflicts: tuple[int, ...]
    seeds_only: frozenset[str] = frozenset()

    def excludes(self, first: Seed, second: Seed) -> bool:
        """Whether the two cannot stand in one set."""
        return bool(self.conflicts[first.number] >> second.number & 1)


def build_catalogue(taxonomy: Taxonomy, *, own_language: bool = True, careful_only: bool = False) -> Catalogue:
    """The catalogue of a taxonomy, for instructions in its own language or in others; with `careful_only` for instructions
    with harmful intent: poles that the taxonomy marks as frank are left out, no marked subdimension is to be mirrored, and where
    a dimension has one nothing is to be coined in it.

    In other languages its phrases and reading levels mean nothing: seeds with such checks are left out, and with them a
    subdimension that would lose a pole (unless its dimension had nothing else).

    Two seeds exclude each other when either names the other in `conflicts_with` or when no text can pass both their machine
    checks. Raises ValueError for a check that `shared.domain.checks` does not know (a parsed taxonomy has none).
    """
    seeds: list[Seed] = []
    stated: list[SeedPreference] = []
    cells: dict[str, tuple[Cell, ...]] = {}
    for dimension in taxonomy.dimensions:
        of_dimension: list[Cell] = []
        fit = {subdimension.name: _fitting(subdimension, own_language) for subdimension in dimension.subdimensions}
        nothing_fits = not any(fit.values())
        for subdimension in dimension.subdimensions:
            usable = subdimension.seeds if nothing_fits else fit[subdimension.name]
            for pole in subdimension.poles:
                if careful_only and pole.stance == "frank":
                    continue
                guarded = careful_only and pole.stance is not None
                opposite = {other.name.casefold() for other in subdimension.poles if other.name != pole.name}
                opposite |= {seed.name.casefold() for seed in subdimension.seeds if seed.pole != pole.name}
                of_cell: list[Seed] = []
                for seed in usable:
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
                    of_dimension.append(Cell(subdimension.name, pole.name, tuple(of_cell), guarded))
        cells[dimension.name] = tuple(of_dimension)
    marked = {
        dimension.name
        for dimension in taxonomy.dimensions
        if any(pole.stance for subdimension in dimension.subdimensions for pole in subdimension.poles)
    }
    seeds_only = frozenset(marked if careful_only else ())
    return Catalogue(tuple(cells), cells, tuple(seeds), _conflicts(seeds, stated), seeds_only)


def _fitting(subdimension: Subdimension, own_language: bool) -> tuple[SeedPreference, ...]:
    """Its seeds that fit instructions of the language; none where a pole would be left without."""
    if own_language:
        return subdimension.seeds
    fitting = tuple(
        seed for seed in subdimension.seeds if (check := seed_check(seed)) is None or not presumes_language(check)
    )
    return fitting if {seed.pole for seed in fitting} == {seed.pole for seed in subdimension.seeds} else ()


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
_kept: dict[tuple[str, bool, bool], Catalogue] = {}


def catalogue_of(taxonomy: Taxonomy, language: str | None = None, *, careful_only: bool = False) -> Catalogue:
    """The catalogue of a taxonomy for instructions in a language (ISO 639-1; None: the taxonomy's own), built once per version
    and process (the 16 built last are kept). `careful_only` as in `build_catalogue`."""
    own_language = language is None or language == taxonomy.language
    key = (taxonomy.version, own_language, careful_only)
    catalogue = _kept.get(key)
    if catalogue is None:
        catalogue = build_catalogue(taxonomy, own_language=own_language, careful_only=careful_only)
        while len(_kept) >= _MAXIMUM_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = catalogue
    return catalogue
