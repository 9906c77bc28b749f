"""What operators see of a process: structured logs with the ids of job, step and attempt on every line."""
