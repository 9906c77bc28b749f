"""Draws a resource log as a picture: memory of every process, and size of database and store, over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.resources import Sample

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM = 1000, 320, 70, 210, 30, 40
_COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#8c564b",
    "#17becf",
    "#7f7f7f",
    "#bcbd22",
    "#e377c2",
)

Line = Sequence[tuple[float, float]]


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Write a PNG with two panels; seconds from left to right, MB of 2^20 bytes upwards."""
    names = sorted({name for sample in samples for name in sample.memory})
    memory = {
        name: [(sample.seconds, sample.memory[name]) for sample in samples if name in sample.memory] for name in names
    }
    sizes = {
        "database": [(sample.seconds, sample.database_mb) for sample in samples],
        "store": [(sample.seconds, sample.store_mb) for sample in samples],
    }
    image = Image.new("RGB", (_WIDTH, 2 * _PANEL), "white")
    _panel(image, 0, "memory by process, MB", memory)
    _panel(image, _PANEL, "database and store, MB", sizes)
    image.save(path)


def _panel(image: Image.Image, offset: int, title: str, lines: Mapping[str, Line]) -> None:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    right, top, bottom = _WIDTH - _RIGHT, offset + _TOP, offset + _PANEL - _BOTTOM
    longest = max((point[0] for line in lines.values() for point in line), default=0.0) or 1.0
    highest = max((point[1] for line in lines.values() for point in line), default=0.0) or 1.0
    draw.text((_LEFT, offset + 8), title, fill="black", font=font)
    for step in range(5):
        height = bottom - (bottom - top) * step / 4
        draw.line([(_LEFT, height), (right, height)], fill="#dddddd")
        draw.text((8, height - 8), f"{highest * step / 4:,.0f}", fill="black", font=font)
        place = _LEFT + (right - _LEFT) * step / 4
        draw.text((place - 12, bottom + 6), f"{longest * step / 4:,.0f} s", fill="black", font=font)
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [
            (_LEFT + (right - _LEFT) * seconds / longest, bottom - (bottom - top) * value / highest)
            for seconds, value in line
        ]
        # A process that ran for one sample only is a dot.
        for x, y in points:
            draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        place = top + 18 * number
        draw.rectangle([right + 14, place + 3, right + 26, place + 13], fill=colour)
        draw.text((right + 32, place), name, fill="black", font=font)
