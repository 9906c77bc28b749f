"""Figures about a collection, counted in one pass with bounded memory."""

from shared.statistics.collection import STATISTICS_SCHEMA_VERSION, CollectionStatistics, collection_columns

__all__ = ["STATISTICS_SCHEMA_VERSION", "CollectionStatistics", "collection_columns"]
