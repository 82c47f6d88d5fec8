"""Home: where a night begins with a click, goes on, and is found again in the morning."""
