"""Taxonomies that the project carries, as YAML."""
