"""The command line: `main.main` reads the arguments; each command imports what it needs and nothing else."""
