"""`python -m livestack` is the command `livestack`."""

from livestack.faces.cli import main

if __name__ == "__main__":
    main()
