"""The session in a browser: the outreach page for everybody, the host's page, and a static copy for one's own site."""
