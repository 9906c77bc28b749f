"""Options of a job spec that would do nothing, or reject everything, without a word.

They are asked for at submission only, not whenever a spec is read: a job that was accepted stays readable.
"""

from collections.abc import Iterator

import msgspec

from shared.domain.jobs import JobSpec, Source
from shared.domain.language import DETECTABLE_LANGUAGES


class IdleOption(msgspec.Struct, frozen=True):
    """JSON pointer of the option in the spec, and what is wrong and what to set instead."""

    pointer: str
    detail: str


def idle_options(spec: JobSpec) -> Iterator[IdleOption]:
    """Every option of the spec that cannot do what it says."""
    for number, source in enumerate(spec.sources):
        yield from _of_source(source, f"/sources/{number}")
    for number, code in enumerate(spec.curate.languages):
        if code not in DETECTABLE_LANGUAGES:
            yield IdleOption(
                f"/curate/languages/{number}",
                f"{code!r} is no language code that detection knows, so every instruction would be rejected; write ISO 639-1 "
                f"codes in lower case, such as en, de or zh; known: {', '.join(sorted(DETECTABLE_LANGUAGES))}",
            )
    if spec.judge is not None and spec.respond.judge_margin is None:
        yield IdleOption(
            "/judge",
            "a judge is named but never asked, because respond.judge_margin is not set; set it (0.5, for example), or leave "
            "`judge` out",
        )


def _of_source(source: Source, pointer: str) -> Iterator[IdleOption]:
    if source.hub is not None:
        if source.format != "auto":
            detail = (
                f"`format` is {source.format!r}, but a Hub data set is read as the Hub gives it; leave `format` out"
            )
            yield IdleOption(f"{pointer}/format", detail)
        return
    place = "file" if source.file is not None else "bundled"
    for name in ("hub_config", "hub_split", "hub_revision"):
        value = getattr(source, name)
        if value != Source.model_fields[name].default:
            yield IdleOption(
                f"{pointer}/{name}",
                f"`{name}` is {value!r}, but this source is a `{place}`, which has none; leave it out, or set `hub`",
            )
