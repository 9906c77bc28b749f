"""The form of a new job offers every preset, and reads trainings that a person wrote as YAML."""

import re
from html import unescape

import httpx2
import pytest
import yaml

from shared.domain.training_presets import training_preset, training_preset_names
from tests.services.api.support import SPEC, assert_problem

READ = "/jobs/new/trainings"


async def test_every_preset_can_be_chosen_and_reads_back_as_it_is(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/jobs/new")).text
    offered = {
        name: unescape(text)
        for text, name in re.findall(
            r'<option value="([^"]+)" data-method="\w+" (?:data-base)?>([\w-]+)</option>', page
        )
    }
    assert sorted(offered) == list(training_preset_names())
    for name, text in offered.items():
        assert yaml.safe_load(text) == training_preset(name)
        answer = await client.post(READ, json={"texts": [text]})
        assert answer.json()["train"] == [training_preset(name)]


async def test_what_was_read_is_what_a_job_takes(client: httpx2.AsyncClient) -> None:
    texts = [
        "preset: smoke-cpu\nname: sft",
        "preset: smoke-cpu\nname: dpo\nmethod: dpo\nbase: {stage: sft, random: null}",
    ]
    train = (await client.post(READ, json={"texts": texts})).json()["train"]
    answer = await client.post("/v1/jobs", json={**SPEC, "train": train})
    assert answer.status_code == 202, answer.text
    assert [stage["name"] for stage in answer.json()["stages"]][-3:] == ["sft", "dpo", "report"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: [sft", "in line 1"),
        ("name: a\nname", "in line"),
        ("- method: sft", "mapping of options"),
        ("", "mapping of options"),
        ("a: &x [1]\nb: *x", "another part of itself"),
        ("a: \x00", "no YAML"),
    ],
)
async def test_a_text_that_is_no_training_is_refused_at_its_place(
    client: httpx2.AsyncClient, text: str, said: str
) -> None:
    answer = await client.post(READ, json={"texts": ["preset: smoke-cpu", text]})
    assert said in assert_problem(answer, 422, "input_refused", ["/train/1"])["errors"][0]["detail"]


@pytest.mark.parametrize("texts", [["x" * 20_001], ["a: 1"] * 9])
async def test_texts_out_of_range_are_refused(client: httpx2.AsyncClient, texts: list[str]) -> None:
    assert (await client.post(READ, json={"texts": texts})).status_code == 422
