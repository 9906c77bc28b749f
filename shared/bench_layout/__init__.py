"""The released layout of the Multifaceted Bench, read and written: files of others, and what our benches are exported as."""
