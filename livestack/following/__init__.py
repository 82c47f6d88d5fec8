"""A comet or an asteroid among the stars: where it goes, and two skies told apart, a standing and a moving one."""
