"""Checks of this node: each is asked at its interval, judged by rise and fall, and all together say whether the node may hold the VIP.

What lives here: the kinds of checks and their configuration (`model`, `problems`), the hysteresis (`rise_fall`) and the sum of all
checks (`effective`), both pure; one file for each kind (`http`, `tcp`, `interface`); and what drives them (`loop`, `runner`).
`dns`, `resolve` and `names` turn a host name into addresses without a thread.

Nothing here knows about elections, stores or addresses to bind. A check that crashes, hangs or raises is a failed check:
nothing that goes wrong in here leaves an old good verdict standing. No thread and no process is ever started.
"""
