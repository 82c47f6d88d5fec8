"""The way of a frame from pixels to the stack, and what each target and filter remembers of it."""
