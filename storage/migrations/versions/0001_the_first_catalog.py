"""The first catalog.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "orchestrate_jobs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_expires_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_jobs")),
    )
    op.create_index(op.f("ix_orchestrate_jobs_name"), "orchestrate_jobs", ["name"], unique=False)
    op.create_index(op.f("ix_orchestrate_jobs_state"), "orchestrate_jobs", ["state"], unique=False)

    op.create_table(
        "orchestrate_mirrors",
        sa.Column("tracking_uri", sa.String(length=500), nullable=False),
        sa.Column("entity", sa.String(length=100), nullable=False),
        sa.Column("mirror_id", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("tracking_uri", "entity", name=op.f("pk_orchestrate_mirrors")),
    )
    op.create_table(
        "orchestrate_stages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("context", sa.String(length=32), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["orchestrate_jobs.id"], name=op.f("fk_orchestrate_stages_job_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_stages")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_orchestrate_stages_job_id_number")),
    )
    op.create_table(
        "orchestrate_trials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stage_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("candidate", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("test", sa.JSON(), nullable=True),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("recalled_from", sa.Integer(), nullable=True),
        sa.Column("waits_for", sa.Integer(), nullable=True),
        sa.Column("timings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["recalled_from"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_trials_recalled_from")
        ),
        sa.ForeignKeyConstraint(
            ["stage_id"], ["orchestrate_stages.id"], name=op.f("fk_orchestrate_trials_stage_id")
        ),
        sa.ForeignKeyConstraint(
            ["waits_for"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_trials_waits_for")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_trials")),
        sa.UniqueConstraint("stage_id", "number", name=op.f("uq_orchestrate_trials_stage_id_number")),
    )
    op.create_index(
        op.f("ix_orchestrate_trials_stage_id_state"),
        "orchestrate_trials",
        ["stage_id", "state"],
        unique=False,
    )

    op.create_table(
        "orchestrate_artifacts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=100), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["orchestrate_jobs.id"], name=op.f("fk_orchestrate_artifacts_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_artifacts_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_artifacts")),
    )
    op.create_index(
        op.f("ix_orchestrate_artifacts_job_id"), "orchestrate_artifacts", ["job_id"], unique=False
    )
    op.create_index(
        op.f("ix_orchestrate_artifacts_trial_id"), "orchestrate_artifacts", ["trial_id"], unique=False
    )

    op.create_table(
        "orchestrate_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("node", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_attempts_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_attempts")),
        sa.UniqueConstraint("trial_id", "number", name=op.f("uq_orchestrate_attempts_trial_id_number")),
    )
    op.create_table(
        "orchestrate_claims",
        sa.Column("context", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["orchestrate_jobs.id"], name=op.f("fk_orchestrate_claims_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_claims_trial_id")
        ),
        sa.PrimaryKeyConstraint("context", "key", name=op.f("pk_orchestrate_claims")),
    )
    op.create_index(op.f("ix_orchestrate_claims_job_id"), "orchestrate_claims", ["job_id"], unique=False)
    op.create_index(op.f("ix_orchestrate_claims_trial_id"), "orchestrate_claims", ["trial_id"], unique=False)

    op.create_table(
        "orchestrate_evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("context", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["orchestrate_jobs.id"], name=op.f("fk_orchestrate_evaluations_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_evaluations_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_evaluations")),
    )
    op.create_index(
        op.f("ix_orchestrate_evaluations_context_key"),
        "orchestrate_evaluations",
        ["context", "key"],
        unique=False,
    )
    op.create_index(
        op.f("ix_orchestrate_evaluations_trial_id"), "orchestrate_evaluations", ["trial_id"], unique=False
    )

    op.create_table(
        "orchestrate_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stage_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_id"], ["orchestrate_stages.id"], name=op.f("fk_orchestrate_events_stage_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_events_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_events")),
    )
    op.create_index(op.f("ix_orchestrate_events_stage_id"), "orchestrate_events", ["stage_id"], unique=False)

    op.create_table(
        "orchestrate_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("stage_id", sa.Integer(), nullable=True),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["orchestrate_jobs.id"], name=op.f("fk_orchestrate_outbox_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["stage_id"], ["orchestrate_stages.id"], name=op.f("fk_orchestrate_outbox_stage_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_outbox_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrate_outbox")),
    )
    op.create_index(
        "ix_orchestrate_outbox_backlog",
        "orchestrate_outbox",
        ["job_id", "id"],
        unique=False,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )

    op.create_table(
        "orchestrate_reports",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["orchestrate_trials.id"], name=op.f("fk_orchestrate_reports_trial_id")
        ),
        sa.PrimaryKeyConstraint("trial_id", "step", name=op.f("pk_orchestrate_reports")),
    )


def downgrade() -> None:
    """Drop every table."""
    op.drop_table("orchestrate_reports")
    op.drop_table("orchestrate_outbox")
    op.drop_table("orchestrate_events")
    op.drop_table("orchestrate_evaluations")
    op.drop_table("orchestrate_claims")
    op.drop_table("orchestrate_attempts")
    op.drop_table("orchestrate_artifacts")
    op.drop_table("orchestrate_trials")
    op.drop_table("orchestrate_stages")
    op.drop_table("orchestrate_mirrors")
    op.drop_table("orchestrate_jobs")
