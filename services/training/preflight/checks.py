"""Runs all checks of the preflight and writes what they found."""

import math
from pathlib import Path
from typing import Any

import msgspec

from services.training.data.prepared import PreparedData
from services.training.preflight.memory import Device, Load, decide_recompute
from services.training.preflight.page import render_preview
from services.training.preflight.preview import make_preview
from services.training.preflight.report import PreflightReport, SpecialToken
from services.training.preflight.shape import ModelShape, embedding_rows, shape_of_config
from services.training.preflight.storage import check_scratch, check_store
from shared.artifacts.protocol import ArtifactStore
from shared.chat_template import Family, template_text
from shared.domain.errors import InputRefused, MultifacetError
from shared.domain.training import Method, TrainParameters

REPORT_FILE = "preflight.json"
PREVIEW_FILE = "preview.json"
PAGE_FILE = "preview.html"


def run_preflight(
    parameters: TrainParameters,
    tokenizer: Any,
    data: PreparedData,
    config: Any,
    device: Device,
    scratch: Path,
    store: ArtifactStore | None,
    folder: Path,
) -> PreflightReport:
    """Check everything that can be known before the first step; write `preflight.json`, `preview.json` and `preview.html`
    into `folder`, also where a check fails.

    `config` is the model's transformers configuration (its `vocab_size` is taken for the rows of the embedding), `device`
    what it will run on (`this_device()`). Nothing is loaded and no loop may run. Raises InputRefused for what the user can
    change (what was seen, why it is wrong, what to set); MultifacetError for a disk or store of this worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = shape_of_config(config)
    report = _figures(parameters, tokenizer, data, config, device)
    preview = make_preview(parameters, tokenizer, data, report.template)
    (folder / PREVIEW_FILE).write_bytes(msgspec.json.encode(preview))
    try:
        _check_vocabulary(report)
        _check_pad_token(parameters, report)
        load = Load(
            parameters.micro_batch * data.counts.longest_tokens,
            parameters.micro_batch * data.counts.longest_loss_tokens,
        )
        recompute, memory = decide_recompute(parameters, shape, load, device)
        report = msgspec.structs.replace(report, recompute=recompute, memory=memory)
        report = msgspec.structs.replace(report, disk=check_scratch(scratch, parameters, shape))
        if store is not None:
            check_store(store)
            report = msgspec.structs.replace(report, store_checked=True)
    except MultifacetError as error:
        report = msgspec.structs.replace(report, refused=str(error))
        raise
    finally:
        (folder / REPORT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
        (folder / PAGE_FILE).write_text(render_preview(preview, report), encoding="utf-8")
    return report


def _figures(
    parameters: TrainParameters, tokenizer: Any, data: PreparedData, config: Any, device: Device
) -> PreflightReport:
    counts = data.counts
    batches = math.ceil(counts.sequences / (parameters.micro_batch * parameters.processes))
    steps_per_epoch = math.ceil(batches / parameters.accumulation_steps)
    return PreflightReport(
        method=parameters.method.value,
        template=(Family.MISTRAL if tokenizer.chat_template == template_text() else Family.SYSTEM_ROLE).value,
        data=counts,
        steps_per_epoch=steps_per_epoch,
        steps=parameters.maximum_steps or math.ceil(parameters.epochs * steps_per_epoch),
        tokens_per_epoch=counts.train.tokens,
        tokens_per_step=counts.train.tokens / steps_per_epoch,
        vocabulary=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=embedding_rows(config),
        bos=SpecialToken(tokenizer.bos_token, tokenizer.bos_token_id),
        eos=SpecialToken(tokenizer.eos_token, tokenizer.eos_token_id),
        pad=SpecialToken(tokenizer.pad_token, tokenizer.pad_token_id),
        device=device,
        notes=_notes(parameters, tokenizer, data, shape_of_config(config)),
    )


def _notes(parameters: TrainParameters, tokenizer: Any, data: PreparedData, shape: ModelShape | None) -> list[str]:
    counts = data.counts
    notes = []
    if tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        notes.append(
            f"the tokenizer adds {tokenizer.bos_token!r} by itself, and so does the chat template: text that was rendered by "
            "the template must be tokenised without special tokens (training does)"
        )
    if counts.train.unknown_tokens:
        notes.append(
            f"{counts.train.unknown_tokens:,} of {counts.train.tokens:,} tokens are {tokenizer.unk_token!r}: characters that the "
            "vocabulary cannot spell"
        )
    if counts.test is not None and counts.test.lost:
        notes.append(
            f"{sum(counts.test.lost.values()):,} of {counts.test.drawn:,} test rows cannot be evaluated on: "
            + ", ".join(f"{reason} {number:,}" for reason, number in counts.test.lost.items())
        )
    if shape is None:
        notes.append(
            "the memory of this architecture is not known here, so it was not checked"
            + ("" if parameters.recompute == "never" else "; layers are computed twice to be safe")
        )
    return notes


def _check_vocabulary(report: PreflightReport) -> None:
    if report.embedding_rows is not None and report.vocabulary > report.embedding_rows:
        raise InputRefused(
            f"the tokenizer has token ids up to {report.vocabulary - 1:,}, but the model's embedding has "
            f"{report.embedding_rows:,} rows; use the tokenizer that belongs to the model",
            "/base",
        )


def _check_pad_token(parameters: TrainParameters, report: PreflightReport) -> None:
    """A reward model's score is read by others at the last token that is no padding: were that EOS, one token too early.

    A tokenizer without a pad token pads with `<unk>` (set when the model is loaded), which no text of a byte-level or byte
    fallback vocabulary holds. Nothing is padded in training itself.
    """
    if parameters.method is not Method.REWARD:
        return
    if report.pad.id is None or report.pad.id == report.eos.id:
        raise InputRefused(
            f"the pad token of the tokenizer is {report.pad.text!r} and its end-of-sequence token {report.eos.text!r}, but a "
            "reward model's score is read at the last token that is no padding, so they must differ; set pad_token in the "
            "model's tokenizer_config.json to a token that texts do not hold, such as its unk_token",
            "/base",
        )
