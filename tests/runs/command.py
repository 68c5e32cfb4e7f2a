"""The command, for a process that finds the package's sources."""

from policygrad.cli import main

if __name__ == "__main__":
    main()
