"""Small robustness suites that the project carries, as rows that candidates are asked."""
