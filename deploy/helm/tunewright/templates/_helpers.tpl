{{- define "tunewright.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* A role of files/rbac, which is a copy of deploy/rbac, and its binding. Takes file, binding, subjects and root. */ -}}
{{- define "tunewright.role" -}}
{{- $role := .root.Files.Get (printf "files/rbac/%s.yaml" .file) | fromYaml }}
{{- $namespaced := eq $role.kind "Role" }}
apiVersion: {{ $role.apiVersion }}
kind: {{ $role.kind }}
metadata:
  name: {{ $role.metadata.name }}
  {{- if $namespaced }}
  namespace: {{ .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "tunewright.labels" .root | nindent 4 }}
rules:
  {{- toYaml $role.rules | nindent 2 }}
{{- if .subjects }}
---
apiVersion: {{ $role.apiVersion }}
kind: {{ $role.kind }}Binding
metadata:
  name: {{ .binding }}
  {{- if $namespaced }}
  namespace: {{ .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "tunewright.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $role.kind }}
  name: {{ $role.metadata.name }}
subjects:
  {{- toYaml .subjects | nindent 2 }}
{{- end }}
{{- end }}
