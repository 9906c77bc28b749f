"""Answer stages: a candidate answers the questions of a job, a reward model ranks what it says."""
