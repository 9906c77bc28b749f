"""The row stage `rubric`: how an answer will be graded on each preference."""
