"""Where small bodies and satellites are at a moment, from files of elements that the user has; nothing is fetched."""
