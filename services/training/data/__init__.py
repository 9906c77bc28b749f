"""Rows of an export as tokens: read, drawn, tokenised, counted, packed. `prepared.prepare` does all of it."""
