"""What of a row a judge reads."""

from typing import Any

from shared.domain.judged_answers import conversation
from shared.domain.rows import Answer, InstructionRow


def material(row: InstructionRow, answer: Answer) -> dict[str, Any]:
    """Instruction and answer as a judge is shown them: the text alone, or of a conversation all that was said."""
    if not row.turns:
        return {"instruction": row.instruction, "answer": answer.text}
    return {"instruction": row.instruction, "answer": conversation(row, answer)}
