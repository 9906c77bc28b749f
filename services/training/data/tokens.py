"""Tokenises the rows of one file into an Arrow file that is mapped into memory when it is read, and counts what is lost."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from services.training.data.counts import LOSSES, SHOWN_ROWS, SplitCounts, length_figures
from services.training.data.reading import ReadRow
from shared.chat_template import ConversationTokenizer, EncodedReply
from shared.domain.training import Method

IGNORED = -100
"""Label of a token without a loss, as torch's cross-entropy has it."""

_BATCH_ROWS = 256

SFT_COLUMNS = ("input_ids", "labels")
PAIR_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


def columns_of(method: Method) -> tuple[str, ...]:
    """Columns of the tokenised rows: lists of token ids."""
    return SFT_COLUMNS if method is Method.SFT else PAIR_COLUMNS


def write_tokens(
    rows: Iterable[ReadRow],
    total: int,
    encoder: ConversationTokenizer,
    tokenizer: Any,
    method: Method,
    maximum_length: int,
    path: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> SplitCounts:
    """Write the rows that can be trained on to `path` (Arrow stream), in order; `total` is the number of rows in their file."""
    tally = _Tally(method, maximum_length, tokenizer)
    waiting = iter(rows)
    with _ArrowFile(path, columns_of(method)) as file:
        while batch := list(islice(waiting, _BATCH_ROWS)):
            examples = [row.example for row in batch if row.example is not None]
            encoded = iter(encoder.encode([(example.messages, example.replies) for example in examples]))
            kept = []
            for row in batch:
                if row.example is None:
                    tally.lose(row.row, row.fault or "wrong_form")
                elif tokens := tally.take(row.row, next(encoded)):
                    kept.append(tokens)
            file.write(kept)
            progress(tally.drawn)
    return tally.counts(total)


class _Tally:
    def __init__(self, method: Method, maximum_length: int, tokenizer: Any) -> None:
        self._method = method
        self._maximum_length = maximum_length
        bos = tokenizer.bos_token_id
        # Where one token both begins and ends, earlier replies of a prompt hold it too.
        self._bos = None if bos == tokenizer.eos_token_id else bos
        unknown = tokenizer.unk_token_id
        self._unknown = None if unknown == tokenizer.eos_token_id else unknown
        self._lost: Counter[str] = Counter()
        self._lost_rows: defaultdict[str, list[int]] = defaultdict(list)
        self._lengths = {name: array("q") for name in ("prompt", "response", "whole")}
        self._digest = sha256()
        self._kept = self._tokens = self._loss_tokens = self._unknown_tokens = 0
        self.drawn = 0

    def lose(self, row: int, reason: str) -> None:
        self.drawn += 1
        self._lost[reason] += 1
        if len(self._lost_rows[reason]) < SHOWN_ROWS:
            self._lost_rows[reason].append(row)

    def take(self, row: int, replies: Sequence[EncodedReply]) -> tuple[list[int], ...] | None:
        """The row's columns, or None where it is lost."""
        if reason := self._fault(replies):
            self.lose(row, reason)
            return None
        self.drawn += 1
        self._kept += 1
        prompt = replies[0].prompt_ids
        columns: tuple[list[int], ...]
        if self._method is Method.SFT:
            reply = replies[0].reply_ids
            columns = (prompt + reply, [IGNORED] * len(prompt) + reply)
        else:
            columns = (prompt, replies[0].reply_ids, replies[1].reply_ids)
        for column in columns:
            self._digest.update(len(column).to_bytes(8, "little"))
            self._digest.update(np.asarray(column, dtype="<i4").tobytes())
        for reply in (reply.reply_ids for reply in replies):
            self._tokens += len(prompt) + len(reply)
            self._loss_tokens += len(reply)
            if self._unknown is not None:
                self._unknown_tokens += prompt.count(self._unknown) + reply.count(self._unknown)
        return columns

    def _fault(self, replies: Sequence[EncodedReply]) -> str | None:
        if reason := next((reply.fault for reply in replies if reply.fault is not None), None):
            return reason
        prompt, longest = replies[0].prompt_ids, max(len(reply.reply_ids) for reply in replies)
        self._lengths["prompt"].append(len(prompt))
        self._lengths["response"].extend(len(reply.reply_ids) for reply in replies)
        self._lengths["whole"].append(len(prompt) + longest)
        if self._bos is not None and prompt.count(self._bos) > 1:
            return "double_bos"
        if len(prompt) >= self._maximum_length:
            return "prompt_too_long"
        if len(prompt) + longest > self._maximum_length:
            return "too_long"
        if len(replies) > 1 and replies[0].reply_ids == replies[1].reply_ids:
            return "identical_pair"
        return None

    def counts(self, total: int) -> SplitCounts:
        figures = {name: length_figures(values) for name, values in self._lengths.items()}
        return SplitCounts(
            rows=total,
            drawn=self.drawn,
            kept=self._kept,
            lost={reason: self._lost[reason] for reason in LOSSES if self._lost[reason]},
            lost_rows={reason: self._lost_rows[reason] for reason in LOSSES if self._lost[reason]},
            lengths={name: value for name, value in figures.items() if value is not None},
            tokens=self._tokens,
            loss_tokens=self._loss_tokens,
            unknown_tokens=self._unknown_tokens,
            digest=self._digest.hexdigest(),
        )


class _ArrowFile:
    """Lists of token ids as an Arrow stream; memory holds one batch."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._schema = pa.schema([(name, pa.list_(pa.int32())) for name in columns])
        self._path = path

    def __enter__(self) -> "_ArrowFile":
        self._file = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_stream(self._file, self._schema)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._file.close()

    def write(self, rows: Sequence[tuple[list[int], ...]]) -> None:
        if rows:
            columns = zip(*rows, strict=True)
            arrays = [pa.array(column, type=pa.list_(pa.int32())) for column in columns]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
