"""Recall by classes: verified, aggregated, forgotten, audited, invalidated.

What recall knew before can't match any longer, since the namespace has more fields; its results are in
the trials, and `orchestrate recall import` makes them known again.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

P = "orchestrate_"


def upgrade() -> None:
    """Replace evaluations and claims by classes and what hangs on them."""
    op.drop_table(f"{P}claims")
    op.drop_table(f"{P}evaluations")

    op.create_table(
        f"{P}namespaces",
        sa.Column("memory", sa.String(length=32), nullable=False),
        sa.Column("context", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _refers("namespaces", "job_id", "jobs"),
        sa.PrimaryKeyConstraint("memory", name=op.f(f"pk_{P}namespaces")),
    )
    _index("namespaces", "context")

    op.create_table(
        f"{P}classes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("memory", sa.String(length=32), nullable=False),
        sa.Column("signature", sa.JSON(), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.false(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("hits", "since", "floor", "used")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("checked", "split")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{P}classes")),
    )
    _index("classes", "memory", "live", "used")
    _index("classes", "memory", "used")

    op.create_table(
        f"{P}names",
        sa.Column("memory", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        _refers("names", "class_id", "classes"),
        sa.PrimaryKeyConstraint("memory", "key", "class_id", name=op.f(f"pk_{P}names")),
    )

    op.create_table(
        f"{P}tombstones",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{P}tombstones")),
    )

    op.create_table(
        f"{P}evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("steps", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("tombstone_id", sa.Integer(), nullable=True),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        _refers("evaluations", "class_id", "classes"),
        _refers("evaluations", "trial_id", "trials"),
        _refers("evaluations", "job_id", "jobs"),
        _refers("evaluations", "tombstone_id", "tombstones"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{P}evaluations")),
        sa.UniqueConstraint("class_id", "trial_id", name=op.f(f"uq_{P}evaluations_class_id_trial_id")),
    )
    _index("evaluations", "trial_id")
    _index("evaluations", "job_id")

    op.create_table(
        f"{P}hits",
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("served", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("hash_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("saved_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("waited_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("audited", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=True),
        sa.Column("tombstone_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _refers("hits", "trial_id", "trials"),
        _refers("hits", "class_id", "classes"),
        _refers("hits", "tombstone_id", "tombstones"),
        sa.PrimaryKeyConstraint("trial_id", name=op.f(f"pk_{P}hits")),
    )
    _index("hits", "class_id")

    op.create_table(
        f"{P}claims",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        _refers("claims", "class_id", "classes"),
        _refers("claims", "trial_id", "trials"),
        _refers("claims", "job_id", "jobs"),
        sa.PrimaryKeyConstraint("class_id", "trial_id", name=op.f(f"pk_{P}claims")),
    )
    _index("claims", "trial_id")
    _index("claims", "job_id")

    op.add_column(f"{P}trials", sa.Column("confirmed", sa.JSON(), nullable=True))
    op.add_column(f"{P}trials", sa.Column("tier", sa.String(length=16), nullable=True))
    op.add_column(
        f"{P}trials",
        sa.Column(
            "class_id",
            sa.Integer(),
            sa.ForeignKey(f"{P}classes.id", name=op.f(f"fk_{P}trials_class_id")),
            nullable=True,
        ),
        inline_references=True,  # SQLite adds no constraint to a table that is there
    )
    _index("trials", "class_id")


def downgrade() -> None:
    """Go back to keys without classes, with nothing known."""
    op.drop_index(op.f(f"ix_{P}trials_class_id"), f"{P}trials")
    with op.batch_alter_table(f"{P}trials") as trials:
        for name in ("class_id", "tier", "confirmed"):
            trials.drop_column(name)
    for name in ("claims", "hits", "evaluations", "tombstones", "names", "classes", "namespaces"):
        op.drop_table(P + name)
    op.create_table(
        f"{P}claims",
        sa.Column("context", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        _refers("claims", "job_id", "jobs"),
        _refers("claims", "trial_id", "trials"),
        sa.PrimaryKeyConstraint("context", "key", name=op.f(f"pk_{P}claims")),
    )
    _index("claims", "job_id")
    _index("claims", "trial_id")
    op.create_table(
        f"{P}evaluations",
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
        _refers("evaluations", "trial_id", "trials"),
        _refers("evaluations", "job_id", "jobs"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{P}evaluations")),
    )
    _index("evaluations", "context", "key")
    _index("evaluations", "trial_id")


def _refers(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{P}{other}.id"], name=op.f(f"fk_{P}{table}_{column}"))


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{P}{table}_{'_'.join(columns)}"), f"{P}{table}", list(columns), unique=False)
