{{/*
What the operator may do where functions are watched: a rule for each resource, to the verb. It is what the operator itself asks
for at its start, and a test holds the two against each other.
Secrets are read and written by name; listing them, which would show every password of the cluster, is not among its rights.
*/}}
{{- define "stepwell.rights" -}}
- apiGroups: [stepwell.dev]
  resources: [durablefunctions]
  verbs: [get, list, watch, patch] # patch: the finalizer of `deletionPolicy: Drain`
- apiGroups: [stepwell.dev]
  resources: [durablefunctions/status]
  verbs: [patch]
- apiGroups: [stepwell.dev]
  resources: [durablestores]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get] # one that is going: what drains in it can't end
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What it may do in the cluster, if it watches all of it: learn which kinds there are, and what it may do. */}}
{{- define "stepwell.clusterRights" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
- apiGroups: [authorization.k8s.io]
  resources: [selfsubjectaccessreviews]
  verbs: [create]
{{- if include "stepwell.reviewers" . }}
# The gateways of all namespaces are subjects of this one binding, of this one role, and the operator may change no other.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterrolebindings]
  resourceNames: [{{ include "stepwell.reviewers" . }}]
  verbs: [get, update]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [{{ include "stepwell.reviewers" . }}]
  verbs: [bind]
{{- end }}
{{- end }}

{{/* (list $ "name" "service account"): what a binding ends with. */}}
{{- define "stepwell.subject" -}}
subjects:
  - {kind: ServiceAccount, name: {{ index . 1 }}, namespace: {{ (index . 0).Release.Namespace }}}
{{- end }}
