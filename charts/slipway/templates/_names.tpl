{{- define "slipway.name" -}}
slipway-{{ .Values.name }}
{{- end }}

{{- define "slipway.matching" -}}
app.kubernetes.io/instance: {{ .root.Values.name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "slipway.labels" -}}
app.kubernetes.io/name: slipway
{{ include "slipway.matching" . }}
app.kubernetes.io/managed-by: slipway
{{- end }}

{{- define "slipway.metadata" -}}
name: {{ include "slipway.name" .root }}-{{ .suffix | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "slipway.labels" . | nindent 2 }}
{{- end }}
