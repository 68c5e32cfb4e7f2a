"""The command, as `python -m policygrad`."""

from policygrad.cli import main

if __name__ == "__main__":
    main()
