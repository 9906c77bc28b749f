"""Which of a facet's answers stand for it where answers are judged, by models or by people."""

from shared.domain.rows import Answer, Facet, InstructionRow


def judged_answers(facet: Facet) -> list[int]:
    """Positions of the answers that count: the best one where one is marked, else all that have no fault. None of a facet that
    was rejected."""
    if not facet.alive:
        return []
    best = [position for position, answer in enumerate(facet.answers) if answer.best]
    return best or [position for position, answer in enumerate(facet.answers) if not answer.fault]


def best_answer(facet: Facet) -> Answer | None:
    """The answer that stands for the facet: the best one, else the first without a fault; None where there is none."""
    positions = judged_answers(facet)
    return facet.answers[positions[0]] if positions else None


def conversation(row: InstructionRow, answer: Answer, turns: int | None = None) -> list[dict[str, str]]:
    """The first `turns` turns (default: all) with what was answered, as plain data: `user` and `assistant` of each."""
    said = [row.instruction, *row.turns]
    answered = [answer.text, *answer.later]
    return [{"user": user, "assistant": assistant} for user, assistant in zip(said, answered, strict=False)][:turns]
