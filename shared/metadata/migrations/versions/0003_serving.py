"""Deployments and the servers they run on, leases of GPUs, profiles of people, limits of keys.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "gpu_slot",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("lease_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("host", "device"),
    )
    op.create_index(op.f("ix_gpu_slot_holder"), "gpu_slot", ["holder"], unique=False)
    op.create_table(
        "key_usage",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day"),
    )
    op.create_index(op.f("ix_key_usage_project_id"), "key_usage", ["project_id"], unique=False)
    op.create_table(
        "profile",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_profile_project_id"), "profile", ["project_id"], unique=False)
    op.create_index(
        "one_living_profile_of_a_name",
        "profile",
        ["project_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("wanted_revision", sa.Integer(), nullable=False),
        sa.Column("serving_revision", sa.Integer(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_deployment_job_id"), "deployment", ["job_id"], unique=False)
    op.create_index(op.f("ix_deployment_project_id"), "deployment", ["project_id"], unique=False)
    op.create_index(
        "one_living_deployment_of_a_name",
        "deployment",
        ["project_id", "name"],
        unique=True,
        postgresql_where=sa.text("state <> 'stopped'"),
    )
    op.create_table(
        "profile_version",
        sa.Column("profile_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("preferences", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("composed_by", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("taxonomy", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["profile_id"],
            ["profile.id"],
        ),
        sa.PrimaryKeyConstraint("profile_id", "version"),
    )
    op.create_table(
        "deployment_event",
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.id"],
        ),
        sa.PrimaryKeyConstraint("deployment_id", "sequence"),
    )
    op.create_table(
        "deployment_revision",
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("target", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("server_id", sa.String(), nullable=True),
        sa.Column("info", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.id"],
        ),
        sa.PrimaryKeyConstraint("deployment_id", "revision"),
    )
    op.create_index(op.f("ix_deployment_revision_server_id"), "deployment_revision", ["server_id"], unique=False)
    op.create_table(
        "model_server",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("launcher", sa.String(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("devices", postgresql.ARRAY(sa.Integer()), server_default="{}", nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("deployment_id", sa.String(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("observed_state", sa.String(), nullable=False),
        sa.Column("observed_detail", sa.String(), nullable=False),
        sa.Column("serving", sa.String(), nullable=True),
        sa.Column("leaving", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("live_since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_model_server_deployment_id"), "model_server", ["deployment_id"], unique=False)
    op.create_index(op.f("ix_model_server_launcher"), "model_server", ["launcher"], unique=False)
    op.add_column("api_key", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_key", sa.Column("tokens_per_minute", sa.BigInteger(), nullable=True))
    op.add_column("api_key", sa.Column("tokens_per_day", sa.BigInteger(), nullable=True))


def downgrade() -> None:

    op.drop_column("api_key", "tokens_per_day")
    op.drop_column("api_key", "tokens_per_minute")
    op.drop_column("api_key", "requests_per_minute")
    op.drop_index(op.f("ix_model_server_launcher"), table_name="model_server")
    op.drop_index(op.f("ix_model_server_deployment_id"), table_name="model_server")
    op.drop_table("model_server")
    op.drop_index(op.f("ix_deployment_revision_server_id"), table_name="deployment_revision")
    op.drop_table("deployment_revision")
    op.drop_table("deployment_event")
    op.drop_table("profile_version")
    op.drop_index(
        "one_living_deployment_of_a_name", table_name="deployment", postgresql_where=sa.text("state <> 'stopped'")
    )
    op.drop_index(op.f("ix_deployment_project_id"), table_name="deployment")
    op.drop_index(op.f("ix_deployment_job_id"), table_name="deployment")
    op.drop_table("deployment")
    op.drop_index("one_living_profile_of_a_name", table_name="profile", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(op.f("ix_profile_project_id"), table_name="profile")
    op.drop_table("profile")
    op.drop_index(op.f("ix_key_usage_project_id"), table_name="key_usage")
    op.drop_table("key_usage")
    op.drop_index(op.f("ix_gpu_slot_holder"), table_name="gpu_slot")
    op.drop_table("gpu_slot")
