"""From the configuration file to one frozen Config; knows no process.

For others: `values` (the Config and its parts), `load.examine` (read, check, build), `prepare` (in
a process of its own), `promises` (what a configuration promises, in sentences).
"""
