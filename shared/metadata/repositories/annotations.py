"""Annotation tasks, their pairs, and what people said of them."""

import builtins
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.domain.annotations import AnnotationTaskNotFound, Outcome
from shared.domain.identifiers import new_id
from shared.metadata.tables import Annotation, AnnotationItem, AnnotationTask


class AnnotationRepository:
    """Annotation tasks of projects."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def create(self, project_id: str, items: Sequence[dict[str, Any]], **values: Any) -> AnnotationTask:
        """Store a task with its pairs, in the order in which they are numbered. `items` hold row_id, facet_index, swapped and
        body; `values` are the task's other columns."""
        values = {**values, "id": new_id("annotation"), "project_id": project_id, "items": len(items)}
        task = (
            await self._session.execute(sa.insert(AnnotationTask).values(**values).returning(AnnotationTask))
        ).scalar_one()
        await self._session.execute(
            sa.insert(AnnotationItem),
            [{**item, "task_id": task.id, "number": number} for number, item in enumerate(items)],
        )
        return task

    async def require(self, project_id: str, task_id: str) -> AnnotationTask:
        """The task; raises AnnotationTaskNotFound."""
        query = sa.select(AnnotationTask).where(
            col(AnnotationTask.project_id) == project_id, col(AnnotationTask.id) == task_id
        )
        task = (await self._session.execute(query)).scalar_one_or_none()
        if task is None:
            raise AnnotationTaskNotFound(f"no annotation task {task_id} in this project")
        return task

    async def list(
        self, project_id: str, *, before: str | None = None, limit: int = 50
    ) -> builtins.list[AnnotationTask]:
        """Newest first; `before` is the last id of the page before."""
        query = sa.select(AnnotationTask).where(col(AnnotationTask.project_id) == project_id)
        if before is not None:
            query = query.where(col(AnnotationTask.id) < before)
        query = query.order_by(col(AnnotationTask.id).desc()).limit(limit)
        return builtins.list((await self._session.execute(query)).scalars())

    async def progress(self, task_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Task id -> annotator -> how many pairs they have judged."""
        query = (
            sa.select(col(Annotation.task_id), col(Annotation.annotator), sa.func.count())
            .where(col(Annotation.task_id).in_(task_ids))
            .group_by(col(Annotation.task_id), col(Annotation.annotator))
            .order_by(col(Annotation.annotator))
        )
        found: dict[str, dict[str, int]] = {task_id: {} for task_id in task_ids}
        for task_id, annotator, count in await self._session.execute(query):
            found[task_id][annotator] = count
        return found

    async def item(self, task_id: str, number: int) -> AnnotationItem | None:
        return await self._session.get(AnnotationItem, (task_id, number))

    async def items(self, task_id: str) -> builtins.list[AnnotationItem]:
        """All pairs, in their order."""
        query = sa.select(AnnotationItem).where(col(AnnotationItem.task_id) == task_id)
        return builtins.list((await self._session.execute(query.order_by(col(AnnotationItem.number)))).scalars())

    async def judged(self, task_id: str, annotator: str) -> set[int]:
        """Numbers of the pairs that an annotator has judged."""
        query = sa.select(col(Annotation.number)).where(
            col(Annotation.task_id) == task_id, col(Annotation.annotator) == annotator
        )
        return set((await self._session.execute(query)).scalars())

    async def annotate(
        self, task_id: str, number: int, annotator: str, outcome: Outcome, seconds: float | None
    ) -> None:
        """Keep what an annotator says of a pair; a later word takes the place of an earlier one."""
        statement = insert(Annotation).values(
            task_id=task_id, number=number, annotator=annotator, outcome=outcome.value, seconds=seconds
        )
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["task_id", "number", "annotator"],
                set_={"outcome": outcome.value, "seconds": seconds, "annotated_at": sa.func.now()},
            )
        )

    async def undo(self, task_id: str, annotator: str) -> int | None:
        """Take back what an annotator said last; the number of that pair, None where there is nothing."""
        query = (
            sa.select(Annotation)
            .where(col(Annotation.task_id) == task_id, col(Annotation.annotator) == annotator)
            .order_by(col(Annotation.annotated_at).desc(), col(Annotation.number).desc())
            .limit(1)
            .with_for_update()
        )
        last = (await self._session.execute(query)).scalar_one_or_none()
        if last is None:
            return None
        await self._session.delete(last)
        return last.number

    async def annotations(self, task_id: str) -> builtins.list[Annotation]:
        """All that was said, by pair and annotator."""
        query = sa.select(Annotation).where(col(Annotation.task_id) == task_id)
        query = query.order_by(col(Annotation.number), col(Annotation.annotator))
        return builtins.list((await self._session.execute(query)).scalars())
