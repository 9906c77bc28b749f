"""What the stages of an evaluation are given to read."""

from services.evaluation.handlers import HANDLERS
from shared.domain.plan import JUDGING_STAGES
from shared.stages.protocol import RowStageHandler


def test_rows_without_any_answer_reach_the_stages_that_count_lost_verdicts() -> None:
    taken = {one.kind for one in HANDLERS if isinstance(one, RowStageHandler) and one.takes_rejected}
    assert taken == JUDGING_STAGES
