"""What all others use: frames, settings, errors, the journal's records, durable files. Imports nothing of ours."""
