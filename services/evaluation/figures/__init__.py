"""What an evaluation finds: every figure with its interval over instructions, what it rests on, and what was lost."""
