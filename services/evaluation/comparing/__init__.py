"""The row stage `compare`: a judge holds a candidate's answers against the baseline's, in both orders."""
