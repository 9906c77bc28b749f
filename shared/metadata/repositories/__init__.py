"""All SQL of the project, by subject. One request or task is one transaction; repositories never commit."""
