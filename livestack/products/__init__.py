"""What is left in the morning: stacks and pictures as files, merged nights, the report."""
