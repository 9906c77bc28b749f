"""One call from export to tokens: `prepare`. What it writes can be read again by other processes: `load_prepared`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import msgspec
import numpy as np

from services.training.data.counts import DataCounts, Packing, SplitCounts
from services.training.data.examples import POINTER
from services.training.data.losses import refuse_losses
from services.training.data.packing import pack
from services.training.data.reading import DataFile, draw_rows, open_data, read_rows
from services.training.data.tokens import IGNORED, write_tokens
from shared.chat_template import ConversationTokenizer
from shared.domain.errors import InputRefused
from shared.domain.training import Method, TrainParameters

_COUNTS_FILE = "counts.json"


class PreparedData(msgspec.Struct, frozen=True):
    """Rows as tokens, mapped from files in the folder that they were prepared in.

    SFT: `input_ids`, `labels` (-100 outside the response; the response ends with EOS), and `seq_lengths` where rows are packed.
    DPO, ORPO, RM: `prompt_ids` (beginning with BOS where the template writes one), `chosen_ids`, `rejected_ids` (each ends
    with EOS). Training never sees `test`.
    """

    train: datasets.Dataset
    test: datasets.Dataset | None
    counts: DataCounts


def prepare(
    parameters: TrainParameters,
    tokenizer: Any,
    train_path: Path,
    test_path: Path | None,
    folder: Path,
    progress: Callable[[int, int | None, str], None] = lambda _done, _total, _note: None,
) -> PreparedData:
    """Read, draw, tokenise and pack the rows of a training. The same parameters, tokenizer and files give the same tokens.

    `tokenizer` has its chat template installed. All files lie below `folder`. `maximum_rows` and `one_message_per_instruction`
    hold for training alone, `maximum_test_rows` for the test rows; these are lost for the same reasons and counted, but
    never end the training.
    Raises InputRefused for files that cannot be read, columns of another method, no rows, or more rows lost than
    `maximum_lost_share`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    data = open_data(train_path, parameters.method, "training")
    if data is None:
        raise InputRefused(
            "the training data have no row, so there is nothing to train on; choose a collection or file with rows",
            POINTER,
        )
    encoder = ConversationTokenizer(tokenizer)
    train_counts = _tokenise(data, parameters, encoder, tokenizer, folder, "train", progress)
    refuse_losses(parameters, train_counts)
    train, packing = _dataset(parameters, folder, "train")
    test_counts = test = None
    test_data = open_data(test_path, parameters.method, "test") if test_path is not None else None
    if test_data is not None:
        everything = parameters.model_copy(
            update={"maximum_rows": parameters.maximum_test_rows, "one_message_per_instruction": False}
        )
        test_counts = _tokenise(test_data, everything, encoder, tokenizer, folder, "test", progress)
        test = _dataset(parameters, folder, "test")[0] if test_counts.kept else None
    longest, longest_loss = _longest(train, parameters.method)
    counts = DataCounts(
        columns=list(data.present),
        used_columns=list(data.columns),
        train=train_counts,
        test=test_counts,
        packing=packing,
        sequences=len(train),
        longest_tokens=longest,
        longest_loss_tokens=longest_loss,
    )
    (folder / _COUNTS_FILE).write_bytes(msgspec.json.encode(counts))
    return PreparedData(train, test, counts)


def load_prepared(folder: Path) -> PreparedData:
    """What `prepare` left in `folder`, for another process of the same training.

    Raises FileNotFoundError where nothing was prepared: the counts are written last.
    """
    counts = msgspec.json.decode((folder / _COUNTS_FILE).read_bytes(), type=DataCounts)
    kept_test = counts.test is not None and counts.test.kept
    return PreparedData(_open(folder, "train"), _open(folder, "test") if kept_test else None, counts)


def _tokenise(
    data: DataFile,
    parameters: TrainParameters,
    encoder: ConversationTokenizer,
    tokenizer: Any,
    folder: Path,
    name: str,
    progress: Callable[[int, int | None, str], None],
) -> SplitCounts:
    total, drawn = draw_rows(data, parameters)
    wanted = total if drawn is None else len(drawn)
    return write_tokens(
        read_rows(data, parameters.method, drawn),
        total,
        encoder,
        tokenizer,
        parameters.method,
        parameters.maximum_length,
        folder / f"{name}-rows.arrow",
        lambda done: progress(done, wanted, f"tokenising {name} rows"),
    )


def _dataset(parameters: TrainParameters, folder: Path, name: str) -> tuple[datasets.Dataset, Packing | None]:
    rows = datasets.Dataset.from_file(str(folder / f"{name}-rows.arrow"))
    (folder / f"{name}-packs.arrow").unlink(missing_ok=True)
    if not parameters.packs_rows:
        return rows, None
    return pack(rows, parameters.maximum_length, parameters.seed, folder, name)


def _open(folder: Path, name: str) -> datasets.Dataset:
    packs = folder / f"{name}-packs.arrow"
    return datasets.Dataset.from_file(str(packs if packs.exists() else folder / f"{name}-rows.arrow"))


def _longest(train: datasets.Dataset, method: Method) -> tuple[int, int]:
    """(tokens of the longest sequence, most tokens with a loss of a sequence); both sides of a pair with their prompts."""
    longest = longest_loss = 0
    for batch in train.with_format("arrow").iter(batch_size=1024):
        if method is Method.SFT:
            for labels in batch["labels"]:
                values = labels.values.to_numpy()
                longest = max(longest, len(values))
                longest_loss = max(longest_loss, int(np.count_nonzero(values != IGNORED)))
        else:
            prompt, chosen, rejected = (
                np.asarray(batch[name].combine_chunks().value_lengths())
                for name in ("prompt_ids", "chosen_ids", "rejected_ids")
            )
            longest = max(longest, int((2 * prompt + chosen + rejected).max()))
            longest_loss = max(longest_loss, int((chosen + rejected).max()))
    return longest, longest_loss
