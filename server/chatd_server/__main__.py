"""`python -m chatd_server`: the same as `chatd`."""

from chatd_server.cli import main

if __name__ == "__main__":
    main()
