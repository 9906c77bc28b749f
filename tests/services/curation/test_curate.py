"""The whole curate step on real files: shards, rejected rows with reasons, and counts that add up."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.curation.curate import UNDECIDED_LANGUAGE_TAG, run
from services.curation.handlers import HANDLERS
from shared.artifacts.tables import iterate_records, read_rows
from shared.domain.errors import InputRefused, StepFailed
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import CurateParameters, FieldMapping, JobSpec, ModelChoice, Source, SplitParameters
from shared.domain.plan import StageKind
from shared.domain.rows import HARMFUL_INTENT_TAG, InstructionRow
from shared.domain.splits import SplitLevel
from shared.domain.taxonomy import default_taxonomy
from shared.stages.protocol import InputObject, WholeContext, WholeResult

TEACHER = ModelChoice(provider="simulator", model="simulator-small")
TAXONOMY = default_taxonomy()


class Curated:
    """A finished run, read back."""

    def __init__(self, result: WholeResult) -> None:
        self.result = result
        self.parts = [output for output in result.outputs if output.name.startswith("part-")]
        self.shards = [read_rows(output.path) for output in self.parts]
        self.rows: list[InstructionRow] = [row for shard in self.shards for row in shard]
        files = {output.name: output.path for output in result.outputs}
        self.rejected: list[dict[str, Any]] = list(iterate_records(files["rejected.parquet"]))
        self.decontamination = orjson.loads(files["decontamination.json"].read_bytes())
        self.splits = orjson.loads(files["splits.json"].read_bytes())

    @property
    def reasons(self) -> Counter[str]:
        return Counter(row["reason"] for row in self.rejected)


@pytest.fixture
def curate(tmp_path: Path) -> Callable[..., Curated]:
    """Run the step over files given by name and content; `mapping` and `limit` are for all sources."""
    runs = 0

    def start(
        files: dict[str, Iterable[dict[str, Any]] | bytes],
        *,
        sources: tuple[Source, ...] | None = None,
        benchmarks: dict[str, Iterable[dict[str, Any]] | bytes] | None = None,
        seed: int = 0,
        splits: SplitParameters | None = None,
        **parameters: Any,
    ) -> Curated:
        nonlocal runs
        runs += 1
        folder = tmp_path / str(runs)
        folder.mkdir()
        inputs = []
        for name, content in [*files.items(), *(benchmarks or {}).items()]:
            path = folder / name
            data = (
                content if isinstance(content, bytes) else "".join(json.dumps(row) + "\n" for row in content).encode()
            )
            path.write_bytes(data)
            inputs.append(InputObject("upload", f"file_{name}", path, None, {"name": name}))
        spec = JobSpec(
            sources=sources or tuple(Source(file=f"file_{name}") for name in files),
            teacher=TEACHER,
            seed=seed,
            splits=splits or SplitParameters(),
            curate=CurateParameters(
                decontaminate_against=tuple(f"file_{name}" for name in benchmarks or {}), **parameters
            ),
        )
        context = WholeContext("job_1", "curate", spec, TAXONOMY, tuple(inputs), folder / "out", lambda *_: None)
        return Curated(run(context))

    return start


def questions(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is the story behind house number {n} in street {n * 7}, and who lived in it?"}
        for n in range(count)
    ]


def test_the_demo_set_shows_every_filter_at_work(curate: Callable[..., Curated]) -> None:
    curated = curate({}, sources=(Source(bundled="demo"),))
    assert curated.result.ledger.rows_in == 100
    assert len(curated.rows) == 92
    assert curated.reasons == {"persona": 4, "near_duplicate": 2, "duplicate": 1, "too_short": 1}
    assert {row.main_source for row in curated.rows} == {"demo"}
    assert len({row.original_source for row in curated.rows}) >= 12
    assert {row.language for row in curated.rows} >= {"en", "de", "fr", "es", "ja"}


def test_rows_carry_what_later_stages_need(curate: Callable[..., Curated]) -> None:
    lines = [{"question": " Why do bees dance in front of the hive?\r\n", "source": "s"}]
    [row] = curate({"mine.jsonl": lines}, splits=SplitParameters(test_share=0)).rows
    assert row == InstructionRow(
        row_id=row_id_of("Why do bees dance in front of the hive?"),
        instruction="Why do bees dance in front of the hive?",
        main_source="mine",
        original_source="s",
        source_row=0,
        language="en",
    )


def test_every_row_has_its_split_before_anything_is_drawn(curate: Callable[..., Curated]) -> None:
    curated = curate({"q.jsonl": questions(100)}, near_duplicate_threshold=None)
    tests = [row for row in curated.rows if row.split == "test"]
    assert len(tests) == 10
    assert {row.level for row in curated.rows if row.split == "train"} == {""}
    assert {row.level for row in tests} == {level.value for level in SplitLevel}
    assert sum(entry["instructions"] for entry in curated.splits["instructions"]) == 100
    assert curated.result.summary is not None
    assert curated.result.summary["splits"] == curated.splits


def test_a_held_out_source_is_counted_among_what_survives_the_filters(curate: Callable[..., Curated]) -> None:
    """The small file makes up more than a quarter of what was read, but less of what is left."""
    files = {
        "large.jsonl": questions(30),
        "small.jsonl": [*questions(12), {"prompt": "How deep is Lake Constance now?"}],
    }
    curated = curate(files, near_duplicate_threshold=None, splits=SplitParameters(largest_source_share=0.1))
    assert curated.splits["held_out"]["sources"] == ["small"]
    assert {row.split for row in curated.rows if row.main_source == "small"} == {"test"}


def test_shards_have_the_size_of_the_plan_and_keep_the_order(curate: Callable[..., Curated]) -> None:
    curated = curate({"q.jsonl": questions(300)}, near_duplicate_threshold=None)
    assert [len(shard) for shard in curated.shards] == [19] * 15 + [15]
    assert [output.name for output in curated.parts] == [f"part-{n:05d}.parquet" for n in range(16)]
    assert [output.rows for output in curated.parts] == [len(shard) for shard in curated.shards]
    assert [row.source_row for row in curated.rows] == list(range(300))


def test_every_rejected_row_has_a_reason_and_can_be_found_again(curate: Callable[..., Curated]) -> None:
    rows = [
        b'{"prompt": "How do I repair a puncture on the road?"}',
        b"{broken",
        b'{"other": 1}',
        b'{"prompt": "caf\xe9"}',
        b'{"prompt": " \\u200b "}',
        b'{"prompt": "Hi"}',
        b'{"prompt": "' + b"word " * 5000 + b'"}',
        b'{"prompt": "How do I repair a puncture on the road? "}',
        b'{"prompt": "Act as a mechanic. How do I repair a puncture on the road?"}',
        b'{"prompt": "' + b"x" * 10_000_001 + b'"}',
    ]
    curated = curate({"q.jsonl": b"\n".join(rows)})
    assert [row.source_row for row in curated.rows] == [0]
    by_row = {row["source_row"]: row for row in curated.rejected}
    assert {row: record["reason"] for row, record in by_row.items()} == {
        1: "invalid_json", 2: "missing_field", 3: "not_utf8", 4: "empty", 5: "too_short",
        6: "too_long", 7: "duplicate", 8: "persona", 9: "oversized_line",
    }  # fmt: skip
    assert by_row[7]["detail"] == "equal to row 0 of q"
    assert "act_as" in by_row[8]["detail"]
    assert all(len(record["text"]) <= 2000 for record in curated.rejected)
    assert curated.result.ledger.reasons == dict(curated.reasons)


def test_near_duplicates_name_the_row_that_stays_across_sources(curate: Callable[..., Curated]) -> None:
    text = "Write a letter to the city council that asks for a safe crossing at the school in Mill Street before winter comes"
    first, second = {"prompt": text}, {"prompt": text + " again"}
    curated = curate({"a.jsonl": [first, *questions(2)], "b.jsonl": [second]})
    [rejected] = curated.rejected
    assert rejected["main_source"] == "b"
    assert rejected["detail"].endswith("with row 0 of a (source 0)")
    assert len(curate({"a.jsonl": [first], "b.jsonl": [second]}, near_duplicate_threshold=None).rows) == 2


def test_rejected_rows_of_files_with_one_mapping_are_told_apart(curate: Callable[..., Curated]) -> None:
    long = "Write a letter to the city council that asks for a safe crossing at the school in Mill Street before winter comes"
    first = [
        {"q": long},
        {"q": "Hi"},
        {"q": "Where do storks spend the winter?"},
        {"q": "How deep is Lake Constance now?"},
    ]
    second = [{"q": long + " again"}, {"q": "Hi"}, {"q": "Where do storks spend the winter?"}, {"other": 1}]
    mapping = FieldMapping(instruction="{q}", main_source="Nectar")
    curated = curate(
        {"a.jsonl": first, "b.jsonl": second},
        sources=tuple(Source(file=f"file_{name}.jsonl", mapping=mapping) for name in "ab"),
        benchmarks={"bench.txt": b"How deep is Lake Constance now?"},
    )
    places = {(row["source"], row["source_row"]): row["reason"] for row in curated.rejected}
    assert places == {
        (0, 1): "too_short", (0, 3): "contaminated",
        (1, 0): "near_duplicate", (1, 1): "too_short", (1, 2): "duplicate", (1, 3): "missing_field",
    }  # fmt: skip
    [duplicate] = [row for row in curated.rejected if row["reason"] == "duplicate"]
    assert (duplicate["main_source"], duplicate["detail"]) == ("Nectar", "equal to row 2 of Nectar (source 0)")
    assert curated.decontamination["removed"][0]["source"] == 0


def test_multi_turn_is_reduced_and_several_formats_go_together(curate: Callable[..., Curated]) -> None:
    turns = [
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "Where do storks spend the winter?"},
            ]
        }
    ]
    curated = curate({"m.jsonl": turns, "t.csv": b"prompt,n\nHow deep is Lake Constance?,1\n"})
    assert [row.instruction for row in curated.rows] == [
        "Where do storks spend the winter?",
        "How deep is Lake Constance?",
    ]
    assert [row.main_source for row in curated.rows] == ["m", "t"]


def test_languages_can_be_chosen(curate: Callable[..., Curated]) -> None:
    rows = [
        {"prompt": "Wie tief ist der Bodensee, und wie ist er entstanden?"},
        {"prompt": "How deep is Lake Constance, and how did it come into being?"},
        {"prompt": "2 + 2 * 2 = ?"},
    ]
    curated = curate({"q.jsonl": rows}, languages=("de",))
    assert [row.language for row in curated.rows] == ["de"]
    assert curated.reasons == {"language": 2}
    undecided = curate({"q.jsonl": rows}).rows[2]
    assert (undecided.language, undecided.tags) == ("en", [UNDECIDED_LANGUAGE_TAG])


def test_decontamination_removes_and_reports(curate: Callable[..., Curated]) -> None:
    leaked = "What is the story behind house number 3 in street 21, and who lived in it?"
    curated = curate(
        {"q.jsonl": questions(6)},
        benchmarks={"bench.txt": f"Something else.\n{leaked}\n".encode()},
        decontamination_ngram=9,
        near_duplicate_threshold=None,
    )
    assert [row["source_row"] for row in curated.rejected] == [3]
    [removed] = curated.decontamination["removed"]
    assert (removed["benchmark"], removed["benchmark_row"], removed["grams"]) == ("file_bench.txt", 1, 8)
    assert curated.decontamination["benchmarks"][0]["texts"] == 2


def test_decontamination_counts_each_kind_of_match(curate: Callable[..., Curated]) -> None:
    short, middle = "How deep is Lake Constance?", "Which birds stay in the north of Europe?"
    long = "Which birds stay in the north of Europe during the long dark winter?"
    rows = [short, f"Hello! {middle}", f"Hello! {short}", f"Well: {long} And why is that so?", "Why do bees dance?"]
    curated = curate(
        {"q.jsonl": [{"prompt": row} for row in rows]},
        benchmarks={"bench.jsonl": [{"a": short, "b": long, "c": middle}]},
        decontamination_ngram=10,
        near_duplicate_threshold=None,
    )
    assert curated.decontamination["removed_by"] == {"runs": 1, "whole": 1, "contained": 1}
    assert [(item["source_row"], item["match"]) for item in curated.decontamination["removed"]] == [
        (0, "whole"), (1, "contained"), (3, "runs"),
    ]  # fmt: skip
    details = {row["source_row"]: row["detail"] for row in curated.rejected}
    assert details[1] == "has within it the whole text of row 0 of benchmark file_bench.jsonl"


def test_the_limit_is_drawn_by_seed_and_does_not_depend_on_the_order(curate: Callable[..., Curated]) -> None:
    rows = questions(60)
    drawn = curate({"q.jsonl": rows}, near_duplicate_threshold=None, limit=20, seed=1)
    again = curate({"q.jsonl": rows[::-1]}, near_duplicate_threshold=None, limit=20, seed=1)
    other = curate({"q.jsonl": rows}, near_duplicate_threshold=None, limit=20, seed=2)
    assert drawn.reasons == {"over_limit": 40}
    assert {row.row_id for row in drawn.rows} == {row.row_id for row in again.rows}
    assert {row.row_id for row in drawn.rows} != {row.row_id for row in other.rows}
    assert [row.source_row for row in drawn.rows] == sorted(row.source_row for row in drawn.rows)


def test_a_source_limit_reads_no_further(curate: Callable[..., Curated]) -> None:
    curated = curate(
        {"q.jsonl": questions(50)}, sources=(Source(file="file_q.jsonl", limit=5),), near_duplicate_threshold=None
    )
    assert (curated.result.ledger.rows_in, len(curated.rows)) == (5, 5)


@pytest.mark.parametrize(
    ("content", "source", "pointer"),
    [
        (b"", {}, "/sources/0"),
        (b'{"title": "x"}\n', {}, "/sources/0/mapping"),
        (b'{"prompt": "x"}\n', {"mapping": {"instruction": "{question}"}}, "/sources/0/mapping"),
        (b'{"prompt": "x"}\n', {"mapping": "nobody"}, "/sources/0/mapping"),
        (b'{"prompt": "x"}\n', {"file": "file_missing"}, "/sources/0/file"),
        (b'{"prompt": "\xe9"}\n', {}, "/sources/0"),
    ],
)
def test_an_unusable_source_is_refused_with_its_pointer(
    curate: Callable[..., Curated], content: bytes, source: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InputRefused) as caught:
        curate({"q.jsonl": content}, sources=(Source.model_validate({"file": "file_q.jsonl", **source}),))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("threshold", [0.8, None])
def test_a_curation_that_rejects_everything_keeps_its_counts_and_rows(
    curate: Callable[..., Curated], threshold: float | None
) -> None:
    rows = [{"prompt": f"Act as a cook number {n}."} for n in range(2)]
    curated = curate({"q.jsonl": [*rows, {"prompt": "Hi"}]}, near_duplicate_threshold=threshold)
    assert curated.parts == []
    assert [row["source_row"] for row in curated.rejected] == [0, 1, 2]
    ledger = curated.result.ledger
    assert (ledger.rows_in, ledger.rows_out, ledger.rows_rejected) == (3, 0, 3)
    assert ledger.reasons == dict(curated.reasons) == {"persona": 2, "too_short": 1}
    assert curated.result.summary is not None
    assert curated.result.summary["rows_out"] == 0
    assert curated.splits["instructions"] == []


@pytest.mark.parametrize("name", ["/etc", "etc", "../up/side", "a/b/c", "org/name;x"])
def test_a_hub_name_can_never_be_a_path(curate: Callable[..., Curated], name: str) -> None:
    with pytest.raises(InputRefused, match="no Hub data set name") as caught:
        curate({}, sources=(Source(hub=name),))
    assert caught.value.pointer == "/sources/0/hub"


def test_a_hub_data_set_is_streamed(curate: Callable[..., Curated], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []
    stream = datasets.IterableDataset.from_generator(lambda: iter(questions(120)))

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return stream

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Source(hub="some/Questions", hub_split="test", hub_revision="abc", limit=70)
    curated = curate({}, sources=(source,), near_duplicate_threshold=None)
    assert asked == [(("some/Questions", None), {"split": "test", "revision": "abc", "streaming": True})]
    assert [row.source_row for row in curated.rows] == list(range(70))
    assert {row.main_source for row in curated.rows} == {"Questions"}


def test_a_source_field_that_the_hub_data_set_lacks_is_refused(
    curate: Callable[..., Curated], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    stream = datasets.IterableDataset.from_generator(lambda: iter(questions(10)))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    mapping = FieldMapping(instruction="{prompt}", main_source="{dataset}")
    with pytest.raises(InputRefused, match="for main_source; columns seen") as caught:
        curate({}, sources=(Source(hub="some/Questions", mapping=mapping),))
    assert caught.value.pointer == "/sources/0/mapping/main_source"


def test_a_hub_out_of_reach_fails_with_its_own_code(
    curate: Callable[..., Curated], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(StepFailed, match="no route") as caught:
        curate({}, sources=(Source(hub="some/Questions"),))
    assert caught.value.code == "hub_unreachable"


LINE = st.one_of(
    st.sampled_from(
        [
            b'{"prompt": "How do I prune an old apple tree?"}',
            b'{"prompt": "How do I prune an old apple tree? "}',
            b'{"prompt": "You are a gardener. Help me."}',
            b'{"prompt": "short"}',
            b'{"prompt": null}',
            b"[]",
            b"",
        ]
    ),
    st.binary(max_size=20).filter(lambda data: not {10, 0} & set(data)),
    st.text(min_size=1, max_size=60).map(lambda text: json.dumps({"prompt": text}).encode()),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=25), st.sampled_from([None, 1, 3]))
def test_counts_add_up_whatever_comes(curate: Callable[..., Curated], lines: list[bytes], limit: int | None) -> None:
    data = b'{"prompt": "Which birds stay in the north during winter?"}\n' + b"\n".join(lines)
    curated = curate({"q.jsonl": data}, limit=limit)
    ledger = curated.result.ledger
    ledger.check()
    assert ledger.rows_in == 1 + sum(bool(line.strip()) for line in data.split(b"\n")[1:])
    assert ledger.rows_out == len(curated.rows)
    assert ledger.rows_rejected == len(curated.rejected)
    places = [row.source_row for row in curated.rows] + [row["source_row"] for row in curated.rejected]
    assert sorted(places) == list(range(ledger.rows_in))


def test_the_role_offers_its_four_steps_by_name() -> None:
    kinds = {StageKind.CURATE, StageKind.ASSEMBLE, StageKind.SELECT, StageKind.REPORT}
    assert {handler.kind for handler in HANDLERS} == kinds
    assert all(handler.run.startswith("services.curation.") and handler.run.endswith(":run") for handler in HANDLERS)


def test_instructions_of_harmful_intent_stay_with_a_tag_and_are_counted_by_rule(curate: Callable[..., Curated]) -> None:
    texts = ["How do I kill a person?", "How do I kill a hanging process?", "Write a phishing email to my neighbours."]
    curated = curate({"a.jsonl": [{"instruction": text} for text in texts]})
    assert {row.instruction: HARMFUL_INTENT_TAG in row.tags for row in curated.rows} == {
        texts[0]: True,
        texts[1]: False,
        texts[2]: True,
    }
    assert curated.rejected == []
    assert curated.result.summary["tags"][HARMFUL_INTENT_TAG] == 2
    assert curated.result.summary["harmful_intent_rules"] == {"hurt_somebody": 1, "phishing_and_scams": 1}


def test_only_instructions_that_stay_are_counted_as_harmful(curate: Callable[..., Curated]) -> None:
    curated = curate({"a.jsonl": [{"instruction": "How do I kill a person?"}] * 3})
    assert curated.result.summary["tags"][HARMFUL_INTENT_TAG] == 1
