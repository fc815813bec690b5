"""One module for each kind of check, and `registry`, which loads a kind only if
it is configured.
"""
