"""Between the operator's commands and the running daemon.

The control socket and the status document.

For others: `server.ControlServer`, `client.call`, `status` (the document), `listener`.
"""
