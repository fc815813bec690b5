"""The process that systemd supervises: removes addresses at their deadline; standard library only.

For others: `guard.main` (`vipd run`), `link` (the daemon's end of the connection), `entries` (what
runs in the children), `shared_words`, `systemd`, `processes`.
"""
