"""The sunburst of dimension > subdimension > preference."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.charts.theme import OTHER, PALETTE, Figure, base_layout, label_text, name_text

_Counted = tuple[str, int, int]
"""Name, count, number of names that it stands for."""


def preference_sunburst(
    records: Iterable[Mapping[str, Any]], *, top_subdimensions: int = 10, top_preferences: int = 6, height: int = 680
) -> Figure:
    """Preferences as rings, each level cut to its top N with the rest as one `other`.

    `records`: `dimension`, `subdimension`, `preference`, `count`; a `preference` of None stands for many rare ones, whose
    number is in `distinct`. Counts of a ring add up to its parent's.
    """
    tree: dict[str, dict[str, list[_Counted]]] = {}
    rare: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        dimension, subdimension, count = record["dimension"], record["subdimension"], int(record["count"])
        named = tree.setdefault(dimension, {}).setdefault(subdimension, [])
        if record.get("preference") is None:
            before = rare.get((dimension, subdimension), (0, 0))
            rare[dimension, subdimension] = (before[0] + count, before[1] + int(record.get("distinct", 1)))
        else:
            named.append((record["preference"], count, 1))

    rings = _Rings()
    for position, (dimension, subdimensions) in enumerate(tree.items()):
        colour = PALETTE[position % len(PALETTE)]
        sizes = {
            name: sum(count for _, count, _ in named) + rare.get((dimension, name), (0, 0))[0]
            for name, named in subdimensions.items()
        }
        root = rings.add(None, name_text(dimension, 40).replace(" ", "<br>"), sum(sizes.values()), colour)
        kept, others = _top([(name, size, 1) for name, size in sizes.items()], top_subdimensions, (0, 0))
        for subdimension, size, _ in kept:
            branch = rings.add(root, name_text(subdimension, 40), size, _lighter(colour, 0.25))
            leaves, other = _top(
                subdimensions[subdimension], top_preferences, rare.get((dimension, subdimension), (0, 0))
            )
            for name, count, _ in leaves:
                rings.add(branch, label_text(name, 40), count, _lighter(colour, 0.55))
            rings.add_other(branch, other, "preferences")
        rings.add_other(root, others, "subdimensions")
    return rings.figure(height)


def _top(counted: list[_Counted], limit: int, rare: tuple[int, int]) -> tuple[list[_Counted], tuple[int, int]]:
    """The `limit` largest, and (count, number) of all the others together with `rare`."""
    ordered = sorted(counted, key=lambda item: (-item[1], item[0]))
    rest = ordered[limit:]
    return ordered[:limit], (rare[0] + sum(item[1] for item in rest), rare[1] + sum(item[2] for item in rest))


def _lighter(colour: str, share: float) -> str:
    """The colour mixed with so much white."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


class _Rings:
    def __init__(self) -> None:
        self.ids: list[str] = []
        self.parents: list[str] = []
        self.labels: list[str] = []
        self.values: list[int] = []
        self.colours: list[str] = []

    # `label` is escaped already.
    def add(self, parent: str | None, label: str, value: int, colour: str) -> str:
        identifier = str(len(self.ids))
        self.ids.append(identifier)
        self.parents.append(parent or "")
        self.labels.append(label)
        self.values.append(value)
        self.colours.append(colour)
        return identifier

    def add_other(self, parent: str, other: tuple[int, int], noun: str) -> None:
        count, number = other
        if count:
            self.add(parent, f"other ({number:,} {noun})", count, OTHER)

    def figure(self, height: int) -> Figure:
        trace = {
            "type": "sunburst",
            "ids": self.ids,
            "parents": self.parents,
            "labels": self.labels,
            "values": self.values,
            "branchvalues": "total",
            "sort": False,
            "marker": {"colors": self.colours, "line": {"color": "#ffffff", "width": 1}},
            "insidetextorientation": "radial",
            "maxdepth": 3,
            "hovertemplate": "<b>%{label}</b><br>%{value:,} preferences, %{percentParent:.1%} of its ring<extra></extra>",
        }
        layout = base_layout(
            height, margin={"l": 0, "r": 0, "t": 4, "b": 4}, uniformtext={"minsize": 9, "mode": "hide"}
        )
        return {"data": [trace], "layout": layout}
