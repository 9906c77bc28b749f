"""Defects planted in exports: a copy with them, a table of what is caught, and the exports themselves left alone."""

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gates import planted
from gates.defects import DEFECTS, Defect, Planted, Splits
from gates.planted import main, measure, plant
from shared.audit.findings import Threshold
from shared.audit.measures import contradictions
from shared.domain.errors import InputRefused
from tests.shared.audit.planted import Row, clean_rows, mirrored_pairs

_TRAIN, _TEST = 60, 25


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of a made-up job without a defect."""
    folder = tmp_path_factory.mktemp("exports")
    for export in ("sft", "dpo"):
        origins: list[Row] = []
        for split, instructions, seed in (("train", _TRAIN, 1), ("test", _TEST, 2)):
            rows = clean_rows(instructions, seed=seed)
            rows = rows if export == "sft" else mirrored_pairs(rows)
            (folder / export).mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / export / f"{split}.parquet")
            origins += [
                {"split": split, "row": at, "row_id": f"{split}-{row['prompt']}"} for at, row in enumerate(rows)
            ]
        pq.write_table(pa.Table.from_pylist(origins), folder / export / "provenance.parquet")
    return folder


def _digest(folder: Path) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.parquet"))}


def test_every_defect_of_a_clean_set_is_caught_and_the_exports_stay_as_they_are(
    exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _digest(exports)
    assert main([str(exports), str(tmp_path)]) == 0
    assert _digest(exports) == before
    printed = capsys.readouterr().out
    measures = [name for defect in DEFECTS for name in defect.measures]
    assert f"{len(measures)} of {len(measures)} caught" in printed
    assert all(name in printed for name in measures)
    for export in ("sft", "dpo"):
        page = (tmp_path / f"{export}.html").read_text(encoding="utf-8")
        assert f"Audit of {export}, clean and {export}, planted" in page
        assert "<script" not in page


def test_a_measure_that_sees_nothing_makes_the_command_fail(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contradictions, "LIMITS", Threshold(warn=0.9, bad=0.95))
    assert main([str(exports), str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "│ no " in line]
    assert len(lines) == 1
    assert "contradictory demands" in lines[0]


def test_alone_no_defect_is_caught_by_what_another_one_does(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmless = Defect(
        "harmless", "sft", 0.5, "rows", ("failed_checks",), lambda splits, share, chance: Planted(9, len(splits.rows))
    )
    swapped = next(defect for defect in DEFECTS if defect.measures == ("failed_checks",))
    monkeypatch.setattr(planted, "DEFECTS", (harmless, swapped))
    monkeypatch.setattr(plant, "__defaults__", (0, (harmless, swapped)))
    assert [result.caught for result in measure(exports, tmp_path)] == [True, True]
    assert [result.caught for result in measure(exports, tmp_path, alone=True)] == [False, True]


def test_what_was_not_planted_is_not_caught(exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Defect(
        "nothing",
        "sft",
        0.5,
        "rows",
        ("missing_provenance",),
        lambda splits, share, chance: Planted(0, len(splits.rows)),
    )
    monkeypatch.setattr(planted, "DEFECTS", (nothing,))
    monkeypatch.setattr(plant, "__defaults__", (0, (nothing,)))
    assert [result.caught for result in measure(exports, tmp_path)] == [False]


def test_shares_and_seeds_decide_what_is_planted(exports: Path, tmp_path: Path) -> None:
    first = plant(exports, tmp_path / "first", seed=3)
    assert plant(exports, tmp_path / "again", seed=3) == first
    assert [*_digest(tmp_path / "first").values()] == [*_digest(tmp_path / "again").values()]
    plant(exports, tmp_path / "other", seed=4)
    assert [*_digest(tmp_path / "other").values()] != [*_digest(tmp_path / "first").values()]
    for defect in DEFECTS:
        found = first[defect.export, defect.name]
        assert found.reachable > 0
        slack = 4 * (defect.share * (1 - defect.share) / found.reachable) ** 0.5 + 1 / found.reachable
        assert found.changed / found.reachable == pytest.approx(defect.share, abs=slack), defect.name


def test_provenance_follows_the_rows_that_are_left(exports: Path, tmp_path: Path) -> None:
    plant(exports, tmp_path)
    assert not (tmp_path / "sft" / "provenance.parquet").exists()
    origins = pq.read_table(tmp_path / "dpo" / "provenance.parquet").to_pylist()
    rows = {split: pq.read_table(tmp_path / "dpo" / f"{split}.parquet").to_pylist() for split in ("train", "test")}
    assert len(origins) == sum(map(len, rows.values())) == 3 * (_TRAIN + _TEST)
    assert all(rows[one["split"]][one["row"]]["prompt"] == one["row_id"].split("-", 1)[1] for one in origins)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.plant.__name__)
def test_data_without_rows_gives_nothing_to_plant(defect: Defect) -> None:
    assert defect.plant(Splits([], []), defect.share, random.Random(0)).changed == 0


def test_the_exports_are_never_written_over(exports: Path) -> None:
    before = _digest(exports)
    with pytest.raises(InputRefused, match="the exports themselves"):
        plant(exports, exports / "sft" / "..")
    assert _digest(exports) == before


def test_a_folder_that_is_no_export_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputRefused, match="give the folder `assemble/exports` of a finished job"):
        plant(tmp_path, tmp_path / "out")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "train.parquet" in capsys.readouterr().out
