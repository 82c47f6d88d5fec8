"""A night: the folder that is watched, the threads, the journal, and going on after an interruption."""
