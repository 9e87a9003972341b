"""Alerts, recording rules and boards, built from the table of metrics into the chart; `python -m stepwell_operator.monitoring`.

A query names a metric by its row in the table, so that a renamed one can't leave a rule or a panel behind.
"""
