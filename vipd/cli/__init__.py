"""The command line: `main.main` reads the arguments.

Each command imports what it needs and nothing else.
"""
