"""Demand of pools as a view, draining workers, traces through the outbox, the autoscaler's groups, removal of old artifacts.

Additive: processes of the version before go on working on it.

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_DEMAND = """
CREATE VIEW pool_demand AS
SELECT pool.name AS pool,
       COALESCE(open_steps.ready, 0)::int AS ready,
       COALESCE(open_steps.running, 0)::int AS running,
       COALESCE(workers.slots, 0)::int AS slots
FROM unnest(ARRAY['augmentation', 'composition', 'curation', 'evaluation', 'generation', 'inference', 'training']) AS pool(name)
LEFT JOIN (
    SELECT queue, count(*) FILTER (WHERE state <> 'running') AS ready, count(*) FILTER (WHERE state = 'running') AS running
    FROM step WHERE state IN ('dispatched', 'running') OR (state = 'ready' AND not_before <= now()) GROUP BY queue
) AS open_steps ON open_steps.queue = pool.name
LEFT JOIN (
    SELECT role, sum(slots) AS slots FROM worker CROSS JOIN LATERAL unnest(roles) AS role
    WHERE NOT draining AND heartbeat_at > now() - make_interval(secs => lease_seconds) GROUP BY role
) AS workers ON workers.role = pool.name
"""


def upgrade() -> None:
    op.add_column("worker", sa.Column("lease_seconds", sa.Float(), server_default="60", nullable=False))
    op.add_column("worker", sa.Column("drain_requested", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("outbox", sa.Column("trace", sa.String(), nullable=True))
    op.add_column("job", sa.Column("trace", sa.String(), nullable=True))
    op.add_column("job", sa.Column("artifacts_removed_at", sa.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("artifact", sa.Column("removed_at", sa.TIMESTAMP(timezone=True), nullable=True))
    op.create_table(
        "worker_group",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("minimum", sa.Integer(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.Column("desired", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paused_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("detail", sa.String(), server_default="", nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(_DEMAND)
    op.create_index(
        "step_waiting",
        "step",
        ["job_id", sa.text("priority DESC"), "shard"],
        postgresql_where=sa.text("state IN ('ready', 'dispatched')"),
    )
    op.create_index("step_unfinished", "step", ["stage_id"], postgresql_where=sa.text("state <> 'succeeded'"))


def downgrade() -> None:
    op.drop_index("step_unfinished", table_name="step")
    op.drop_index("step_waiting", table_name="step")
    op.execute("DROP VIEW pool_demand")
    op.drop_table("worker_group")
    op.drop_column("artifact", "removed_at")
    op.drop_column("job", "artifacts_removed_at")
    op.drop_column("job", "trace")
    op.drop_column("outbox", "trace")
    op.drop_column("worker", "drain_requested")
    op.drop_column("worker", "lease_seconds")
