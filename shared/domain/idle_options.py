"""Options of a job spec that would do nothing, or reject everything, without a word.

They are asked for at submission only, not whenever a spec is read: a job that was accepted stays readable.
"""

from collections.abc import Iterator

import msgspec

from shared.domain.jobs import JobSpec, Source
from shared.domain.language import DETECTABLE_LANGUAGES
from shared.domain.plan import COLLECTION_ROW_STAGES, JUDGING_STAGES, plan_of


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
    yield from _of_judge(spec)
    yield from _of_splits(spec)
    yield from _of_answers(spec)


def _of_answers(spec: JobSpec) -> Iterator[IdleOption]:
    if spec.asked.file is not None and spec.asked.split == "train":
        yield IdleOption(
            "/questions/split",
            "questions.split is train, but an uploaded file has no splits: all its rows are asked; leave it out",
        )
    if spec.asked.bench is not None and spec.asked.split == "train":
        yield IdleOption(
            "/questions/split",
            "questions.split is train, but a bench has no splits: all its items are asked; leave it out",
        )
    if spec.asked.suite is not None and spec.asked.split == "train":
        yield IdleOption(
            "/questions/split",
            "questions.split is train, but a robustness suite has no splits: all its rows are asked; leave it out",
        )
    if spec.answer and spec.asked.is_own and spec.asked.split == "test" and spec.splits.test_share == 0:
        yield IdleOption(
            "/splits/test_share",
            "the candidates are asked the test split, but with splits.test_share 0 no instruction is in it; set test_share, or "
            "questions.split to train or all",
        )
    for number, answer in enumerate(spec.answer):
        if answer.server != "cpu" and not answer.candidate.is_deployed_by_job:
            yield IdleOption(
                f"/answer/{number}/server",
                f"server is {answer.server}, but the candidate of {answer.name} answers already; leave it out",
            )
        if answer.candidate.exists:
            for name in ("decoding", "samples", "keep_all", "system"):
                if getattr(answer, name) != type(answer).model_fields[name].default:
                    yield IdleOption(
                        f"/answer/{number}/{name}",
                        f"{name} is set, but the answers of {answer.name} exist already and nobody is asked; leave it out",
                    )
        top_p = type(answer.decoding).model_fields["top_p"].default
        if answer.decoding.greedy and answer.decoding.top_p != top_p:
            yield IdleOption(
                f"/answer/{number}/decoding/top_p",
                "top_p is set, but with temperature 0 the most likely token is taken; leave it out, or raise temperature",
            )


def _of_splits(spec: JobSpec) -> Iterator[IdleOption]:
    if spec.splits.test_share > 0:
        share, default = (
            spec.splits.largest_source_share,
            type(spec.splits).model_fields["largest_source_share"].default,
        )
        if not spec.splits.sources and share != default:
            yield IdleOption(
                "/splits/largest_source_share",
                f"largest_source_share is {share}, but splits.sources is 0: no source is held out; raise that, or leave this out",
            )
        return
    if spec.augment.unseen_set_sizes not in ((), type(spec.augment).model_fields["unseen_set_sizes"].default):
        yield IdleOption(
            "/augment/unseen_set_sizes",
            "unseen_set_sizes are those of test instructions, but with splits.test_share 0 there are none; set test_share, or "
            "leave this out",
        )
    for name, field in type(spec.splits).model_fields.items():
        value = getattr(spec.splits, name)
        if name != "test_share" and value != field.default:
            yield IdleOption(
                f"/splits/{name}",
                f"splits.{name} is {value}, but with test_share 0 nothing is held out; set test_share, or leave it out",
            )


def _of_judge(spec: JobSpec) -> Iterator[IdleOption]:
    if spec.judge is None:
        for part, name in (("respond", "minimum_followed"), ("assemble", "minimum_pair_margin")):
            model = getattr(spec, part)
            value = getattr(model, name)
            if value != type(model).model_fields[name].default:
                detail = f"{part}.{name} is {value}, but only a judge can say so; set `judge`, or leave it out"
                yield IdleOption(f"/{part}/{name}", detail)
    elif not any(stage.kind in COLLECTION_ROW_STAGES | JUDGING_STAGES for stage in plan_of(spec)):
        yield IdleOption(
            "/judge",
            "a judge is named, but the job stops before there is anything to judge; let `stop_after` be augment or later, or "
            "leave `judge` out",
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
