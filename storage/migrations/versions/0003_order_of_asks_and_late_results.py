"""When an ask was made, as against the tells; results that come too late; what a delivery cost.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("orchestrate_events", sa.Column("after", sa.Integer(), nullable=True))
    op.add_column("orchestrate_attempts", sa.Column("late", sa.JSON(), nullable=True))
    op.add_column("orchestrate_outbox", sa.Column("seconds", sa.Float(precision=53), nullable=True))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("orchestrate_outbox") as outbox:
        outbox.drop_column("seconds")
    with op.batch_alter_table("orchestrate_attempts") as attempts:
        attempts.drop_column("late")
    with op.batch_alter_table("orchestrate_events") as events:
        events.drop_column("after")
