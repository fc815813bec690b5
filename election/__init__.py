"""Who owns the virtual IP.

The pure state machine, its timing, the lease record, the guard's decisions, and the stores.

`machine` decides for one election on one node, from events with a time to actions in order; its
docstring says in which module each rule stands, and none of them imports time, asyncio or sockets.
`fencing` decides for the guard in the same way. `store` is what every store can do; one adapter for
each stands beside it. Nothing here touches an interface, and nothing here knows of health checks or
of the command line.
"""
