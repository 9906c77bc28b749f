"""Keeping a bench of what the teacher wrote rubrics for."""
