"""The daemon around the election: processes, configuration, wiring, command line, log and metrics.

`guard` is the process that the service manager knows; it validates the configuration in a child
(`prepare`), keeps a process to fork daemons from (`template`), and stands behind the daemon.
`daemon` owns the event loop; `member` is one configured instance with its interface and checks;
`instance` feeds its machine and does what it says through `executor` and `announcer`. `peers` is
this node among the others. Whatever decides who owns the address is in `election`, not here.
"""
