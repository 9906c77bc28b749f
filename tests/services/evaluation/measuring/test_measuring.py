"""Local models in a child process of their own, and Perspective by a stub: what they say, and what happens when they die."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from pydantic import SecretStr

from services.evaluation.local_models.scoring import Encoder, Fluency, ToxicityClassifier
from services.evaluation.measuring.child import LocalModels
from services.evaluation.measuring.measuring import close_scorers, measure
from services.evaluation.measuring.perspective import Perspective
from shared.domain.errors import InputRefused
from shared.domain.evaluations import MeasureParameters
from shared.domain.jobs import JobSpec
from shared.domain.rows import Answer, Facet, InstructionRow
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import NobodyToAsk
from shared.settings import Settings, get_settings
from shared.stages.protocol import RowContext
from tests.support.model_folders import language_model_folder
from tests.support.servers import free_port
from tests.support.tiny_models import tiny_tokenizer

TEXTS = ["Bread needs time.", "What a fine day it is for a walk by the sea!"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the operator's with a classifier of two labels and a language model."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("models")
    language_model_folder(folder / "language")
    torch.manual_seed(5)
    tokenizer = tiny_tokenizer()
    configuration = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, num_labels=2, id2label={0: "fine", 1: "Toxic"}, pad_token_id=0,
    )  # fmt: skip
    LlamaForSequenceClassification(configuration).save_pretrained(folder / "classifier")
    tokenizer.save_pretrained(folder / "classifier")
    kept = os.environ.get("MULTIFACET_MODELS_FOLDER")
    os.environ["MULTIFACET_MODELS_FOLDER"] = str(folder)
    get_settings.cache_clear()
    yield folder
    os.environ.pop("MULTIFACET_MODELS_FOLDER")
    if kept is not None:
        os.environ["MULTIFACET_MODELS_FOLDER"] = kept
    get_settings.cache_clear()


ALL = MeasureParameters.model_validate(
    {
        "toxicity": {"classifier": {"folder": "classifier"}},
        "fluency": {"folder": "language"},
        "embedding": {"folder": "language"},
    }
)


def context(parameters: MeasureParameters) -> RowContext:
    spec = JobSpec.model_validate(
        {
            "questions": {"bench": "bench_1"},
            "answer": [{"name": "a", "candidate": {"given": True}}],
            "evaluate": {"measure": parameters.model_dump(mode="json")},
        }
    )
    return RowContext("job_1", "measure-a", spec, default_taxonomy(), NobodyToAsk(), None)


def row() -> InstructionRow:
    facets = [Facet(number, answers=[Answer(text, "stop", 1, 3, best=True)]) for number, text in enumerate(TEXTS)]
    facets[0].answers.append(Answer("", "error", 2, 0, fault="empty"))
    return InstructionRow("row1", "How is bread made?", "s", "s", 0, facets=facets)


async def test_every_sound_answer_is_measured_as_the_models_themselves_say(models: Path) -> None:
    measured = row()
    await measure(measured, context(ALL))
    await close_scorers()
    toxicity = ToxicityClassifier(str(models / "classifier"), None, None).scores(TEXTS)
    perplexity = Fluency(str(models / "language"), None).perplexities("How is bread made?", TEXTS)
    distances = Encoder(str(models / "language"), None).distances(TEXTS)
    for facet, toxic, surprise, apart in zip(measured.facets, toxicity, perplexity, distances, strict=True):
        assert surprise is not None
        assert facet.answers[0].measures["toxicity"] == pytest.approx(toxic, abs=1e-5)
        assert facet.answers[0].measures["perplexity"] == pytest.approx(surprise, rel=1e-5)
        assert facet.scores["embedding_distance"] == pytest.approx(apart, abs=1e-5)
    assert measured.facets[0].answers[1].measures == {}


def test_toxicity_is_that_of_the_label_and_perplexity_that_of_the_answers_tokens(models: Path) -> None:
    folder = str(models / "classifier")
    toxic, fine = (ToxicityClassifier(folder, None, label).scores(TEXTS) for label in (None, "fine"))
    assert [a + b for a, b in zip(toxic, fine, strict=True)] == pytest.approx([1.0, 1.0], abs=1e-6)
    with pytest.raises(ValueError, match="its labels: fine, Toxic"):
        ToxicityClassifier(folder, None, "rude")
    fluency = Fluency(str(models / "language"), None)
    (found,) = fluency.perplexities("", [TEXTS[0]])
    tokens = torch.tensor([fluency._tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        loss = fluency._model(tokens, labels=tokens).loss
    assert found == pytest.approx(float(loss.exp()), rel=1e-4)
    assert fluency.perplexities("x", [""]) == [None]


@pytest.mark.long
async def test_a_killed_child_is_started_anew_and_nothing_is_lost(models: Path) -> None:
    local = LocalModels(ALL)
    first = await local.ask("How?", TEXTS, TEXTS)
    killed = local.process_id
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert await local.ask("How?", TEXTS, TEXTS) == first
    assert local.process_id != killed
    await local.close()


@pytest.mark.long
async def test_a_child_ends_when_its_worker_does(models: Path) -> None:
    local = LocalModels(ALL)
    await local.ask("How?", TEXTS[:1], TEXTS[:1])
    process = local._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize(
    ("change", "pointer", "told"),
    [
        ({"fluency": {"folder": "absent"}}, "/evaluate/measure/fluency/folder", "no folder with a config.json"),
        ({"fluency": {"folder": "../.."}}, "/evaluate/measure/fluency/folder", "no folder with a config.json"),
    ],
)
async def test_a_model_that_cannot_be_used_is_refused_in_words(
    models: Path, change: dict[str, Any], pointer: str, told: str
) -> None:
    local = LocalModels(MeasureParameters.model_validate(change))
    with pytest.raises(InputRefused, match=told) as refused:
        await local.ask("How?", TEXTS, TEXTS)
    assert refused.value.pointer == pointer
    assert local.process_id is None


class Stub:
    """Perspective's route: the statuses that it shall answer with first, and the requests that it saw."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.seen: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(
            {"key": request.headers.get("x-goog-api-key"), "body": await request.json(), "url": str(request.url)}
        )
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response({"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.25}}}}, status=status)


async def asked(*statuses: int) -> tuple[float | None, Stub]:
    stub, port = Stub(*statuses), free_port()
    app = web.Application()
    app.router.add_post("/analyze", stub.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    settings = Settings(
        perspective_key=SecretStr("a key"),
        perspective_url=f"http://127.0.0.1:{port}/analyze",
        perspective_requests_per_second=1000,
    )
    scorer = Perspective(settings)
    try:
        return await scorer.toxicity("You fool."), stub
    finally:
        await scorer.close()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(
        "services.evaluation.measuring.perspective.asyncio.sleep", lambda seconds: sleep(min(seconds, 0.01))
    )


async def test_perspective_is_asked_again_where_it_is_busy_and_its_key_stays_out_of_the_address() -> None:
    score, stub = await asked(429, 503)
    assert score == 0.25
    assert len(stub.seen) == 3
    assert stub.seen[0]["key"] == "a key"
    assert stub.seen[0]["body"]["comment"] == {"text": "You fool."}
    assert "key" not in stub.seen[0]["url"]


async def test_what_perspective_cannot_score_has_no_score_and_a_refused_key_is_told() -> None:
    assert (await asked(400))[0] is None
    with pytest.raises(InputRefused, match="refuses the key"):
        await asked(403)
    with pytest.raises(InputRefused, match="MULTIFACET_PERSPECTIVE_KEY"):
        Perspective(Settings())
