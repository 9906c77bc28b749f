"""What an operator does with a whole system: removing what is past its age, backing up, restoring."""
