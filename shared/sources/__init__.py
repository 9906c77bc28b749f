"""Sets of instructions as they come: reading files, finding the fields of a row, checking a source before a job starts."""
