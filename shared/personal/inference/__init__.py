"""From choices between answers to the preferences that would explain them, with an honest estimate of how well they do."""
