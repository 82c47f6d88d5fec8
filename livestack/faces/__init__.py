"""How a person meets a session: command line, terminal, desktop window, browser, film."""
