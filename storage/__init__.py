"""Remembers: the catalog (truth), the artifact store, and the lineage that mirrors it to MLflow."""
