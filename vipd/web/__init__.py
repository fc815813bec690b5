"""What is served over HTTP: /metrics, /healthz and /readyz.

For others: `server.WebServer`.
"""
