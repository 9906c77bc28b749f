"""The whole step `evaluate`: the evaluation as a document, tables, and a page of one file."""
