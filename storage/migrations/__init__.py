"""Alembic's scripts for the catalog, one a revision."""
