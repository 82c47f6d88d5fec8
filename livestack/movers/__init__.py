"""What moves and what passes: residuals of frames made smaller, streaks and points in them, tracks."""
