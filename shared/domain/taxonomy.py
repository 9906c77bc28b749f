"""Dimensions > subdimensions > seed preferences, as data that a user can replace."""

from collections.abc import Iterator
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.domain.checks import Check, canonical_sentence, conflict, find_checks, validate_check
from shared.domain.errors import InputRefused

MAXIMUM_BYTES = 4_000_000
MAXIMUM_DEPTH = 32


class TaxonomyModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckTemplate(TaxonomyModel):
    """A machine check as the taxonomy states it; `kind` and `parameters` are validated by `shared.domain.checks`."""

    kind: str
    parameters: dict[str, str | int | float | list[str]] = {}


class Pole(TaxonomyModel):
    """One side of a subdimension: its name and what a person on that side wants."""

    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)
    stance: Literal["careful", "frank"] | None = Field(
        default=None,
        description="how this side speaks of risk and harm; instructions tagged harmful-intent get careful poles only, so a "
        "subdimension marks none of its poles or each, at least one of them careful",
    )


class SeedPreference(TaxonomyModel):
    name: str = Field(min_length=1, max_length=80, description="a few keywords, unique in the taxonomy")
    pole: str = Field(description="name of one of the subdimension's poles")
    description: str = Field(min_length=1, max_length=600, description="one to three sentences")
    check: CheckTemplate | None = None
    conflicts_with: tuple[str, ...] = Field(
        default=(), description="names of seeds that cannot stand in one set with this one"
    )


class Subdimension(TaxonomyModel):
    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)
    poles: tuple[Pole, ...] = Field(min_length=2)
    seeds: tuple[SeedPreference, ...] = Field(min_length=2)


class Dimension(TaxonomyModel):
    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=400)
    subdimensions: tuple[Subdimension, ...] = Field(min_length=1)


class Taxonomy(TaxonomyModel):
    """A whole taxonomy. Names of dimensions, subdimensions and seeds are unique; every pole has a seed."""

    name: str = Field(min_length=1, max_length=80)
    schema_version: Literal["taxonomy/1"] = "taxonomy/1"
    description: str = ""
    language: str = Field(
        default="en",
        pattern=r"^[a-z]{2}$",
        description="ISO 639-1 code of the language that phrases and reading levels of machine checks presume",
    )
    dimensions: tuple[Dimension, ...] = Field(min_length=1)

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of the sha256 of the canonical content."""
        canonical: Any = self.model_dump(mode="json")
        return sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]

    def seeds(self) -> Iterator["PlacedSeed"]:
        """Every seed with the place where it stands, in the order of the document."""
        for dimension in self.dimensions:
            for subdimension in dimension.subdimensions:
                for seed in subdimension.seeds:
                    yield PlacedSeed(dimension, subdimension, seed)


class PlacedSeed(NamedTuple):
    """A seed and where it stands."""

    dimension: Dimension
    subdimension: Subdimension
    seed: SeedPreference


def seed_check(seed: SeedPreference) -> Check | None:
    """The machine check of a seed, as rows carry it; None for a seed without one. Raises ValueError for an unfit one."""
    return None if seed.check is None else validate_check(seed.check.kind, seed.check.parameters)


def seed_description(seed: SeedPreference) -> str:
    """The description with the canonical sentence of the seed's check, where it has one: `find_checks` finds it there."""
    check = seed_check(seed)
    if check is None:
        return seed.description
    sentence = canonical_sentence(check)
    return seed.description if sentence in seed.description else f"{seed.description} {sentence}"


def seeds_conflict(a: SeedPreference, b: SeedPreference) -> str | None:
    """Why two seeds cannot stand in one set: one names the other, or no text satisfies both checks. None where they can."""
    if b.name in a.conflicts_with or a.name in b.conflicts_with:
        return f"the taxonomy says that {a.name!r} and {b.name!r} contradict each other"
    one, other = seed_check(a), seed_check(b)
    return None if one is None or other is None else conflict(one, other)


def stances_of(taxonomy: Taxonomy) -> dict[tuple[str, str], Literal["careful", "frank"]]:
    """The stance of each pole that has one, by names of subdimension and pole."""
    return {
        (subdimension.name, pole.name): pole.stance
        for dimension in taxonomy.dimensions
        for subdimension in dimension.subdimensions
        for pole in subdimension.poles
        if pole.stance is not None
    }


class _Loader(yaml.CSafeLoader):
    """Safe YAML that refuses what the plain loader would swallow: a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(text: str | bytes) -> object:
    if len(text) > MAXIMUM_BYTES:
        raise InputRefused(f"the taxonomy has {len(text)} bytes; at most {MAXIMUM_BYTES} are read", "")
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputRefused(
            f"the taxonomy is not UTF-8 text: byte {error.start} cannot be read; save it as UTF-8", ""
        ) from None
    if not decoded.strip():
        raise InputRefused("the taxonomy is empty; give a YAML or JSON document with name and dimensions", "")
    try:
        _require_plain(decoded)
        return yaml.load(decoded, Loader=_Loader)  # noqa: S506 (a subclass of the safe loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputRefused(f"the taxonomy is neither YAML nor JSON: {error}", "") from None


def _require_plain(text: str) -> None:
    """Refuse what a small file can do harm with, event by event and before anything is built: an alias stands for a huge
    document, and deep nesting overflows the stack of the C parser."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputRefused("the taxonomy uses YAML aliases (*name), which are not read; write the value out", "")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAXIMUM_DEPTH:
            raise InputRefused(
                f"the taxonomy is neither YAML nor JSON of a taxonomy: it nests deeper than {MAXIMUM_DEPTH} levels",
                "",
            )


def _pointer(*parts: object) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def parse_taxonomy(data: object) -> Taxonomy:
    """A validated taxonomy from a parsed document (dicts and lists) or from YAML or JSON text (str or UTF-8 bytes).

    Raises InputRefused with the JSON pointer of the first offending value: unreadable document, unknown or missing field,
    duplicate name of a dimension, subdimension, pole (within its subdimension) or seed, a subdimension with one pole, with a
    stance on some of its poles only or with stances but no careful one, a pole without a seed, a seed with an unknown pole, an
    unknown check or unfit parameters, a `conflicts_with` that names no other seed, a description that states a check which
    contradicts the seed's own.
    """
    document = _read(data) if isinstance(data, str | bytes) else data
    try:
        taxonomy = Taxonomy.model_validate(document)
    except ValidationError as error:
        raise _refusal(error) from None
    except RecursionError:
        raise InputRefused("the taxonomy is nested without end; give plain dimensions and subdimensions", "") from None
    _require_consistent(taxonomy)
    return taxonomy


def _refusal(error: ValidationError) -> InputRefused:
    found = error.errors(include_url=False)
    # A list with an unfit item is reported as too short as well, because only fit items are counted.
    first, *others = [
        item
        for item in found
        if item["type"] != "too_short"
        or not any(
            len(other["loc"]) > len(item["loc"]) and other["loc"][: len(item["loc"])] == item["loc"] for other in found
        )
    ]
    location = first["loc"]
    pointer = _pointer(*location)
    if first["type"] == "extra_forbidden":
        message = f"unknown field {location[-1]!r}; remove it or correct its name"
    elif first["type"] == "missing":
        message = f"the field {location[-1]!r} is missing"
    elif first["type"] == "too_short" and location and location[-1] == "poles":
        message = f"a subdimension needs two poles or more, seen: {first['ctx']['actual_length']}; name both sides"
    else:
        message = f"{first['msg']}, seen: {str(first['input'])[:80]!r}"
    more = f" ({len(others)} more errors)" if others else ""
    return InputRefused(f"taxonomy, at {pointer or 'the top'}: {message}{more}", pointer)


class _Names:
    """Names met so far, compared without case; `add` refuses the second of a kind."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: dict[str, str] = {}

    def add(self, name: str, pointer: str) -> None:
        key = " ".join(name.split()).casefold()
        if first := self._seen.get(key):
            raise InputRefused(
                f"taxonomy, at {pointer}: {self._what} {name!r} already stands at {first}; names must differ", pointer
            )
        self._seen[key] = pointer


def _require_consistent(taxonomy: Taxonomy) -> None:
    dimensions, subdimensions, seeds = _Names("the dimension"), _Names("the subdimension"), _Names("the seed")
    for d, dimension in enumerate(taxonomy.dimensions):
        dimensions.add(dimension.name, _pointer("dimensions", d, "name"))
        for s, subdimension in enumerate(dimension.subdimensions):
            place = _pointer("dimensions", d, "subdimensions", s)
            subdimensions.add(subdimension.name, f"{place}/name")
            _require_poles(subdimension, place)
            for index, seed in enumerate(subdimension.seeds):
                seeds.add(seed.name, f"{place}/seeds/{index}/name")
                _require_sound_check(seed, f"{place}/seeds/{index}")
    known = {placed.seed.name for placed in taxonomy.seeds()}
    for d, dimension in enumerate(taxonomy.dimensions):
        for s, subdimension in enumerate(dimension.subdimensions):
            for index, seed in enumerate(subdimension.seeds):
                for c, other in enumerate(seed.conflicts_with):
                    pointer = _pointer("dimensions", d, "subdimensions", s, "seeds", index, "conflicts_with", c)
                    if other == seed.name:
                        raise InputRefused(f"taxonomy, at {pointer}: the seed {other!r} conflicts with itself", pointer)
                    if other not in known:
                        raise InputRefused(f"taxonomy, at {pointer}: no seed is named {other!r}", pointer)


def _require_poles(subdimension: Subdimension, place: str) -> None:
    poles = _Names("the pole")
    for index, pole in enumerate(subdimension.poles):
        poles.add(pole.name, f"{place}/poles/{index}/name")
    _require_stances(subdimension, place)
    names = [pole.name for pole in subdimension.poles]
    for index, seed in enumerate(subdimension.seeds):
        if seed.pole not in names:
            pointer = f"{place}/seeds/{index}/pole"
            raise InputRefused(
                f"taxonomy, at {pointer}: the seed {seed.name!r} has the pole {seed.pole!r}; "
                f"{subdimension.name!r} has only {', '.join(names)}",
                pointer,
            )
    held = {seed.pole for seed in subdimension.seeds}
    for index, name in enumerate(names):
        if name not in held:
            pointer = f"{place}/poles/{index}"
            raise InputRefused(
                f"taxonomy, at {pointer}: the pole {name!r} of {subdimension.name!r} has no seed; add one or more",
                pointer,
            )


def _require_stances(subdimension: Subdimension, place: str) -> None:
    """A harmful instruction is moved to the careful poles, so there must be one, and none may be left open."""
    stances = [pole.stance for pole in subdimension.poles]
    if not any(stances):
        return
    for index, pole in enumerate(subdimension.poles):
        if pole.stance is None:
            pointer = f"{place}/poles/{index}/stance"
            raise InputRefused(
                f"taxonomy, at {pointer}: the pole {pole.name!r} of {subdimension.name!r} has no stance and another pole has "
                "one; mark each pole careful or frank, or none",
                pointer,
            )
    if "careful" not in stances:
        pointer = f"{place}/poles"
        raise InputRefused(
            f"taxonomy, at {pointer}: {subdimension.name!r} has frank poles and no careful one; mark at least one careful",
            pointer,
        )


def _require_sound_check(seed: SeedPreference, place: str) -> None:
    try:
        check = seed_check(seed)
    except ValueError as error:
        raise InputRefused(f"taxonomy, at {place}/check: {error}", f"{place}/check") from None
    stated = find_checks(seed.description)
    for index, first in enumerate(stated):
        for other in ([check] if check else []) + stated[index + 1 :]:
            if reason := conflict(first, other):
                raise InputRefused(
                    f"taxonomy, at {place}: the description of {seed.name!r} contradicts its own check: {reason}", place
                )


def load_taxonomy(path: Path) -> Taxonomy:
    """The validated taxonomy of a YAML or JSON file. Raises InputRefused as `parse_taxonomy`, and for a missing file."""
    try:
        return parse_taxonomy(path.read_bytes())
    except OSError as error:
        raise InputRefused(f"the taxonomy file {path} cannot be read: {error.strerror}; check the path", "") from None


@cache
def default_taxonomy() -> Taxonomy:
    """The taxonomy that the project carries, `multifacet`; read once per process."""
    return parse_taxonomy(files("shared.domain.taxonomies").joinpath("multifacet.yaml").read_bytes())
