{{/* The prefix of every name: within 40 characters, so that what is added to it stays within 63. */}}
{{- define "stepwell.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Names of what lies in no namespace hold the release's, so that two releases never meet. */}}
{{- define "stepwell.clusterName" -}}
{{ include "stepwell.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "stepwell.postgres" -}}
{{ include "stepwell.fullname" . }}-postgres
{{- end }}

{{/* (list $ "component"): what a selector asks for; it never changes. */}}
{{- define "stepwell.selector" -}}
app.kubernetes.io/name: stepwell
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list $ "component"): the recommended labels. */}}
{{- define "stepwell.labels" -}}
{{- $ := index . 0 -}}
{{ include "stepwell.selector" . }}
app.kubernetes.io/part-of: stepwell
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* (list $ image): one of our two images. */}}
{{- define "stepwell.image" -}}
{{- $ := index . 0 -}}{{- $image := index . 1 -}}
{{- if $.Values.registry }}{{ $.Values.registry }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{/* The ClusterRole and ClusterRoleBinding of gateways that ask about tokens; empty where they don't. */}}
{{- define "stepwell.reviewers" -}}
{{- if and .Values.gateway.kubernetesTokens (not .Values.watchNamespaces) }}{{ include "stepwell.clusterName" . }}-gateway{{ end -}}
{{- end }}

{{/* The Secret with the administrator's address; empty where there is none. */}}
{{- define "stepwell.adminSecret" -}}
{{- if and .Values.evaluationStore.enabled .Values.store.adminSecret -}}
{{- fail "store.adminSecret and evaluationStore.enabled are two answers to one question: set one of them" -}}
{{- end -}}
{{- if .Values.evaluationStore.enabled }}{{ include "stepwell.postgres" . }}{{ else }}{{ .Values.store.adminSecret }}{{ end -}}
{{- end }}

{{/* The namespaces whose pods a monitor looks for. */}}
{{- define "stepwell.watched" -}}
namespaceSelector: {{ if .Values.watchNamespaces }}{matchNames: {{ toJson .Values.watchNamespaces }}}{{ else }}{any: true}{{ end }}
{{- end }}

{{/* (list $ "component" "namespace"): where a PodMonitor lies, and its labels. */}}
{{- define "stepwell.podMonitor" -}}
{{- $ := index . 0 -}}
namespace: {{ index . 2 }}
labels:
  {{- with $.Values.metrics.podMonitor.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "stepwell.labels" (list $ (index . 1)) | nindent 2 }}
{{- end }}
