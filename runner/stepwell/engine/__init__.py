"""The engine: from an event to a finished run.

Pure modules decide (trigger, flow_control, schedule, retry, run), async ones do (dispatch, committer, execute, worker).
Nothing in here knows a database, a web framework or Kubernetes.
"""
