"""The custom resource definitions, generated from the models: `python -m stepwell_operator.crd` writes `crds/`.

`schema` turns a model into a structural schema, `rules` adds what needs CEL, `columns` says what `kubectl get` shows,
`status` is the operator's half of an object, `definitions` puts them together.
"""
