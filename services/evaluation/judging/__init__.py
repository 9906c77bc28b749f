"""The row stages in which a judge scores single answers: on rubrics, and as turns of a conversation."""
