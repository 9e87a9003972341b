"""The engine: from an event to a finished run.

Pure modules decide (trigger, flow_control, dispatch, schedule, retry, run, journal, outcome), async ones do (committer,
scheduler, execution, steps, attempt). Nothing in here knows a database, a web framework or Kubernetes.
"""
