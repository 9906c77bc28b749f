"""One training from its rows to its registration, in this process: what it leaves, and what it refuses before its first step."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.training import processes, rank, reference, step
from services.training.models.loading import load_base, load_tokenizer
from services.training.preflight.memory import Device
from services.training.request import TrainingRequest
from shared.domain.errors import InputRefused, StepInterrupted
from shared.domain.jobs import JobSpec
from shared.domain.training import TrainParameters
from shared.stages.protocol import InputObject, WholeResult
from tests.services.training.step_support import Trainings, export_rows, running_trainings, training

CHAIN = [training("sft", evaluate_every_steps=2), training("dpo", "dpo", base={"stage": "sft"})]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    folder = tmp_path_factory.mktemp("trainings")
    with running_trainings(folder, MULTIFACET_MODELS_FOLDER=str(folder / "models")) as running:
        (folder / "models").mkdir()
        yield running


@pytest.fixture(scope="module")
def sft(trainings: Trainings) -> tuple[WholeResult, Path]:
    """A finished training, which others start from."""
    return trainings.run(CHAIN, "sft", trainings.exports("sft"))


def metric_rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights(output: Path, part: str = "model/model.safetensors") -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(output / part)
    return loaded


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_training_leaves_its_model_its_figures_and_a_record_of_what_it_did(sft: tuple[WholeResult, Path]) -> None:
    result, output = sft
    kinds = {file.name: file.kind for file in result.outputs}
    assert {name for name, kind in kinds.items() if kind == "model"} == {
        f"model/{name}"
        for name in (
            "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
            "multifacet.json", "tokenizer.json", "tokenizer_config.json",
        )
    }  # fmt: skip
    assert kinds["metrics.jsonl"] == "metrics"
    assert kinds["preview.html"] == "report"
    assert {"preflight.json", "preview.json", "training.json"} <= set(kinds)
    assert any(name.startswith("tensorboard/events") for name in kinds)
    assert (result.ledger.rows_in, result.ledger.rows_out, result.ledger.rows_rejected) == (12, 12, 0)

    record = json.loads((output / "training.json").read_text())
    assert {name: record[name] for name in result.summary} == json.loads(json.dumps(result.summary))
    assert record["parameters"]["learning_rate"] == 1e-3
    rows = metric_rows(output)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 3]
    assert record["final"] == [row for row in rows if "loss" in row][-1]
    assert record["evaluation"] == {"loss": rows[-1]["eval_loss"]}
    assert (record["steps"], record["rows"], record["test_rows"], record["resumed_from"]) == (3, 12, 3, [])
    assert record["tokens"] == rows[-1]["tokens"] > 0

    model = AutoModelForCausalLM.from_pretrained(output / "model")
    assert AutoTokenizer.from_pretrained(output / "model").chat_template
    assert result.model is not None
    assert result.model.parameter_count == sum(weight.numel() for weight in model.parameters())
    assert (result.model.name, result.model.method, result.model.base["name"]) == ("tests/sft", "sft", "tiny-mistral")
    assert result.model.metrics["final"]["loss"] == record["final"]["loss"]
    data = result.model.lineage["data"]
    assert [artifact["id"] for artifact in data["artifacts"]] == ["art_train.parquet", "art_test.parquet"]
    assert (data["teacher"], data["simulator"], data["train_rows"]) == ("simulator/simulator-small", True, 12)
    card = (output / "model" / "README.md").read_text()
    assert "random weights" in card


def test_a_second_run_of_the_same_training_has_the_same_weights(
    trainings: Trainings, sft: tuple[WholeResult, Path]
) -> None:
    _, again = trainings.run(CHAIN, "sft", trainings.exports("sft"), job_id="job_2")
    assert same_weights(sft[1], again)


def test_what_a_base_was_trained_by_stands_in_the_lineage_and_dpo_computes_its_reference_once(
    trainings: Trainings, sft: tuple[WholeResult, Path]
) -> None:
    first, one = trainings.run(CHAIN, "dpo", [*trainings.exports("dpo"), *trainings.base(sft[0])])
    assert first.model is not None
    assert (first.model.lineage["chain"], first.model.lineage["random_weights"]) == (["sft of tests/sft"], True)
    assert first.model.base["source"] == "stage"
    assert "random" in (one / "model" / "README.md").read_text().partition("\n#")[0]
    assert any("computed the reference" in note for note in trainings.told.notes)
    assert {"rewards/margins", "rewards/accuracies"} <= metric_rows(one)[0].keys()
    assert not same_weights(sft[1], one)

    sft_again = trainings.base(sft[0])
    _, two = trainings.run(CHAIN, "dpo", [*trainings.exports("dpo"), *sft_again], job_id="job_2")
    assert any("took the reference" in note for note in trainings.told.notes)
    assert not any("computed the reference" in note for note in trainings.told.notes)
    assert same_weights(one, two)

    # The same base in 4 bits is another model: its reference is another, too.
    four_bits = [CHAIN[0], CHAIN[1] | {"tuning": "qlora"}]
    trainings.run(four_bits, "dpo", [*trainings.exports("dpo"), *sft_again], job_id="job_3")
    assert any("computed the reference" in note for note in trainings.told.notes)


def leaves(value: Any) -> Iterator[str]:
    """All texts in a JSON value, in their order."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from leaves(part)


def test_a_stop_among_the_reference_log_probabilities_keeps_whole_parts(
    trainings: Trainings, sft: tuple[WholeResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PART_PAIRS", 4)
    inputs = [*trainings.exports("dpo", 10), *trainings.base(sft[0])]

    def parts() -> list[str]:
        return [key for key in trainings.keys("cache/tests") if "train-00001" in key]

    class AskedAfterAPart(step.StopRequest):
        asked = property(lambda _: bool(parts()), lambda _self, _value: None)  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr(step, "StopRequest", AskedAfterAPart)
        with pytest.raises(StepInterrupted, match=r"8 of 13 pairs of its reference"):
            trainings.run(CHAIN, "dpo", inputs, job_id="job_4")
    assert ("reference log-probabilities", 4, 13) in [(note, done, of) for done, of, note in trainings.told.progress]
    trainings.run(CHAIN, "dpo", [*trainings.exports("dpo", 10), *trainings.base(sft[0])], job_id="job_4")
    assert "computed the reference log-probabilities of 5 of 13 pairs; the others were stored" in trainings.told.notes


def test_a_dry_run_shows_the_rows_and_makes_no_model(trainings: Trainings) -> None:
    result, output = trainings.run([training("dry", "orpo", dry_run=True)], "dry", trainings.exports("orpo"))
    assert sorted(file.name for file in result.outputs) == ["preflight.json", "preview.html", "preview.json"]
    assert result.model is None
    assert (result.ledger.rows_in, result.ledger.rows_out) == (12, 12)
    preflight = json.loads((output / "preflight.json").read_text())
    assert (preflight["refused"], preflight["steps"], preflight["store_checked"]) == (None, 3, True)
    shown = "".join(leaves(json.loads((output / "preview.json").read_text())))
    assert "What is" in shown.replace("Ġ", " ")
    assert "<s>" in (output / "preview.html").read_text().replace("&lt;", "<").replace("&gt;", ">")
    assert trainings.keys("checkpoints/tests/job_1/dry") == []


@pytest.mark.parametrize(("name", "method"), [("mine.jsonl", "sft"), ("MINE.JSONL", "rm")])
def test_an_uploaded_file_is_trained_on_whatever_it_is_called(trainings: Trainings, name: str, method: str) -> None:
    upload = trainings.upload(export_rows(method, 6), name)
    result, output = trainings.run([training("up", method, data={"file": "file_1"})], "up", [upload])
    assert result.summary["test_rows"] == 0
    assert result.summary["evaluation"] == {}
    assert result.model is not None
    data = result.model.lineage["data"]
    assert (data["file_id"], data["job_id"]) == ("file_1", None)
    assert (output / "model" / "model.safetensors").is_file()


def test_adapters_are_merged_and_kept_beside_the_model(trainings: Trainings, sft: tuple[WholeResult, Path]) -> None:
    specs = [CHAIN[0], training("lora", tuning="lora", base={"stage": "sft"}, lora={"rank": 4})]
    result, output = trainings.run(specs, "lora", [*trainings.exports("sft"), *trainings.base(sft[0])])
    kinds = {file.name: file.kind for file in result.outputs}
    assert kinds["adapter/adapter_model.safetensors"] == "adapter"
    assert kinds["model/model.safetensors"] == "model"
    assert result.model is not None
    assert not result.model.adapter_only
    assert result.model.lineage["merge"]["difference"] < 1e-4
    assert weights(output).keys() == weights(sft[1]).keys()
    assert not same_weights(output, sft[1])


def test_adapters_alone_are_registered_as_such(trainings: Trainings) -> None:
    specs = [training("alone", tuning="lora", lora={"merge": False})]
    result, output = trainings.run(specs, "alone", trainings.exports("sft"))
    names = {file.name for file in result.outputs}
    assert {"adapter/adapter_model.safetensors", "adapter/README.md", "adapter/multifacet.json"} <= names
    assert not any(name.startswith("model/") for name in names)
    assert result.model is not None
    assert result.model.adapter_only
    assert result.model.parameter_count == sum(
        value.numel() for value in weights(output, "adapter/adapter_model.safetensors").values()
    )


def test_adapters_on_four_bits_are_merged_into_full_weights(trainings: Trainings) -> None:
    result, output = trainings.run([training("q", tuning="qlora")], "q", trainings.exports("sft"))
    assert result.model is not None
    merge = result.model.lineage["merge"]
    assert merge["dequantised"]
    assert merge["difference"] < 0.01 < merge["effect"]
    assert {value.dtype for value in weights(output).values()} == {torch.float32}


def test_a_training_that_ended_before_its_model_was_kept_goes_on_at_its_end(
    trainings: Trainings, sft: tuple[WholeResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [training("end", evaluate_every_steps=2, checkpoint_every_steps=1)]
    checkpoints = "checkpoints/tests/job_1/end"
    pause = threading.Event()

    def save(*_: object) -> None:
        for _ in range(400):
            if any(
                key.startswith("step-00000003") and key.endswith("manifest.json") for key in trainings.keys(checkpoints)
            ):
                raise ConnectionError("the worker's disk went away")
            pause.wait(0.05)
        raise AssertionError("the last checkpoint was never stored")

    with monkeypatch.context() as patch:
        patch.setattr(rank, "_save", save)
        with pytest.raises(ConnectionError):
            trainings.run(specs, "end", trainings.exports("sft"))
    result, output = trainings.run(specs, "end", trainings.exports("sft"))
    assert trainings.told.points == ["step 3"]
    assert result.summary["resumed_from"] == [3]
    rows = metric_rows(output)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 3]
    assert result.summary["tokens"] == sft[0].summary["tokens"]
    assert same_weights(output, sft[1])


def test_a_stop_before_the_first_step_starts_no_training(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_at_once(request: TrainingRequest, *_: object) -> None:
        raise AssertionError("it trained")

    class Asked(step.StopRequest):
        def __init__(self) -> None:
            super().__init__()
            self.ask()

    monkeypatch.setattr(step, "StopRequest", Asked)
    monkeypatch.setattr(step, "run_training", asked_at_once)
    with pytest.raises(StepInterrupted, match="before its first step"):
        trainings.run([training("stopped")], "stopped", trainings.exports("sft"))


# What is refused, always before the first step.


@pytest.fixture
def refused(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., InputRefused]:
    """Runs the second of two trainings, which has to be refused; returns the error."""

    def no_training(*_: object) -> None:
        raise AssertionError("it trained")

    def run(inputs: list[InputObject], **values: Any) -> InputRefused:
        specs = [training("first"), training("second", values.pop("method", "sft"), **values)]
        with pytest.raises(InputRefused) as caught:
            trainings.run(specs, "second", inputs)
        return caught.value

    monkeypatch.setattr(rank, "build_trainer", no_training)
    return run


@pytest.mark.parametrize(
    ("rows", "values", "pointer", "told"),
    [
        ([], {}, "/data", "have no row.*choose a collection or file with rows"),
        (export_rows("rm", 4), {}, "/data", "columns chosen, input, rejected, but sft needs prompt, output.*rename the columns"),
        (export_rows("sft", 4), {"method": "dpo"}, "/data", "dpo needs prompt, chosen, rejected.*choose the export of dpo"),
        (export_rows("sft", 4), {"maximum_length": 16}, "/maximum_length", "all 4 training rows are longer.*set maximum_length"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_trained_on_are_refused(
    trainings: Trainings,
    refused: Callable[..., InputRefused],
    rows: list[dict[str, Any]],
    values: dict[str, Any],
    pointer: str,
    told: str,
) -> None:
    error = refused([trainings.parquet("train.parquet", rows, ("prompt", "output"))], **values)
    assert error.pointer == f"/train/1{pointer}"
    assert_matches(error, told)


@pytest.mark.parametrize("name", ["mine.parquet", "mine.jsonl"])
def test_an_upload_that_cannot_be_read_is_refused(
    trainings: Trainings, refused: Callable[..., InputRefused], name: str
) -> None:
    upload = trainings.upload([], name)
    upload.path.write_bytes(b"\x00\x01 neither the one nor the other")
    error = refused([upload], data={"file": "file_1"})
    assert error.pointer is not None
    assert error.pointer.startswith("/train/1/data")


@pytest.fixture
def models(trainings: Trainings, sft: tuple[WholeResult, Path]) -> Iterator[Path]:
    """The operator's folder of models, with one good one."""
    folder = trainings.folder / "models"
    shutil.copytree(sft[1] / "model", folder / "good")
    yield folder
    shutil.rmtree(folder / "good")


def spoil(folder: Path, how: str) -> None:
    match how:
        case "pickle":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "torn":
            (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
        case "template":
            (folder / "chat_template.jinja").write_text(
                "{% for message in messages %}{{ message['content'] }}{% endfor %}"
            )
        case "code":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "model.Model"}}))
        case "record":
            (folder / "multifacet.json").write_text('{"schema_version": "7"}')


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("pickle", "pytorch_model.bin, which can run code.*convert it to safetensors"),
        ("torn", "cannot be loaded"),
        ("template", "chat template without marks around the reply cannot be trained on.*then the Mistral template is put"),
        ("code", "auto_map.*never run.*take a model whose architecture"),
        ("record", "multifacet.json.*cannot be read.*remove this file"),
    ],
)  # fmt: skip
def test_a_base_that_cannot_be_trained_from_is_refused(
    trainings: Trainings, refused: Callable[..., InputRefused], models: Path, how: str, told: str
) -> None:
    spoil(models / "good", how)
    error = refused(trainings.exports("sft"), base={"folder": "good"})
    assert error.pointer == "/train/1/base"
    assert_matches(error, told)


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("missing", "no folder 'missing'; it has good"),
        ("..", "leads out of the operator's folder"),
        ("/etc", "leads out of the operator's folder"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    trainings: Trainings, refused: Callable[..., InputRefused], models: Path, folder: str, told: str
) -> None:
    error = refused(trainings.exports("sft"), base={"folder": folder})
    assert error.pointer == "/train/1/base"
    assert_matches(error, told)


def test_a_folder_is_refused_where_the_operator_set_none(
    trainings: Trainings, refused: Callable[..., InputRefused], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = step.get_settings().model_copy(update={"models_folder": None})
    monkeypatch.setattr(step, "get_settings", lambda: settings)
    error = refused(trainings.exports("sft"), base={"folder": "good"})
    assert error.pointer == "/train/1/base"
    assert_matches(error, "set no folder of models.*set MULTIFACET_MODELS_FOLDER")


def test_a_layer_that_the_base_has_not_is_refused(
    trainings: Trainings, refused: Callable[..., InputRefused], models: Path
) -> None:
    error = refused(
        trainings.exports("sft"), base={"folder": "good"}, tuning="lora", lora={"target_modules": ["q_proj", "wq"]}
    )
    assert error.pointer == "/train/1/lora/target_modules"
    assert_matches(error, "names wq, which this model has not; it has .*q_proj")


def test_a_training_that_does_not_fit_into_memory_is_refused_with_what_would_fit(
    trainings: Trainings, refused: Callable[..., InputRefused], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "this_device", lambda: Device("cpu", 27_000_000, "CPU"))
    error = refused(trainings.exports("sft"))
    assert error.pointer is not None
    assert error.pointer.startswith("/train/1")
    assert_matches(error, "needs about .* MiB .*What would fit: .*lora")


def test_more_processes_than_gpus_are_refused(
    trainings: Trainings, refused: Callable[..., InputRefused], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cuda:
        is_available = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 1)

    class Torch:
        cuda = Cuda

    monkeypatch.setattr(processes, "torch", Torch)
    error = refused(trainings.exports("sft"), processes=2)
    assert error.pointer == "/train/1/processes"
    assert_matches(error, "processes is 2.*has 1; set processes to 1 or less")


def test_an_unknown_option_is_refused_at_submission() -> None:
    with pytest.raises(ValueError, match=r"train\.0\.learning_rat\b[\s\S]*[Ee]xtra inputs are not permitted"):
        JobSpec.model_validate({"name": "n", "train": [training("sft", learning_rat=1, data={"file": "f"})]})


def test_a_four_bit_base_is_held_as_it_was_read(models: Path) -> None:
    parameters = TrainParameters.model_validate(training("q", tuning="qlora", base={"folder": "good"}))
    loaded = load_base(parameters, models / "good").model
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    layer = dict(loaded.get_base_model().named_modules())["model.layers.0.mlp.up_proj"].base_layer
    plain = weights(models / "good", "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    packed, state = quantize_4bit(plain, quant_type="nf4", compress_statistics=True)
    assert torch.equal(dequantize_4bit(layer.weight.data, layer.weight.quant_state), dequantize_4bit(packed, state))
    assert load_tokenizer(models / "good").eos_token == "</s>"


def assert_matches(error: InputRefused, told: str) -> None:
    with pytest.raises(InputRefused, match=rf"(?s){told}"):
        raise error
