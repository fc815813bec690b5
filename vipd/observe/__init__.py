"""Tells what happened on this node: log, metrics, notes of the status; decides and drives nothing.

For others: `observe.Observe`, `metrics.Metrics`, `log`, `log_line`, `store_health.StoreHealth`,
`headline`.
"""
