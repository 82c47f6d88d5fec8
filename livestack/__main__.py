"""`python -m livestack` is the command `livestack`."""

from livestack.cli import main

if __name__ == "__main__":
    main()
