{{- /* What the pods of both Deployments have in common. */}}
{{- define "slipway.deployment" -}}
{{- if not .pods.max_replicas }}
replicas: {{ .pods.replicas }}
{{- end }}
selector:
  matchLabels:
    {{- include "slipway.matching" . | nindent 4 }}
strategy:
  type: RollingUpdate
  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
progressDeadlineSeconds: {{ max 60 (int .root.Values.start_timeout_s) }}
{{- end }}

{{- define "slipway.pod" -}}
serviceAccountName: {{ include "slipway.name" .root }}-pods
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "slipway.matching" . | nindent 8 }}
{{- with .root.Values.images.pull_secrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .pods.node_selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "slipway.hardened" -}}
imagePullPolicy: {{ .Values.images.pull_policy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- define "slipway.agentCommand" -}}
- {{ .Values.images.python }}
- -m
- delivery.agent
- --folder
- /adapters
{{- if eq .Values.adapter_files.kind "pulled" }}
- --config
- /etc/slipway/agent/agent.yaml
{{- end }}
{{- end }}

{{- define "slipway.agentRoom" -}}
resources:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {memory: {{ eq .Values.adapter_files.kind "pulled" | ternary "512Mi" "256Mi" }}}
volumeMounts:
  - name: adapters
    mountPath: /adapters
    {{- if eq .Values.adapter_files.kind "shared" }}
    readOnly: true
    {{- end }}
  - {name: tmp, mountPath: /tmp}
  {{- if eq .Values.adapter_files.kind "pulled" }}
  - {name: registry, mountPath: /etc/slipway/agent, readOnly: true}
  {{- if .Values.adapter_files.login_secret }}
  - {name: login, mountPath: /etc/slipway/login, readOnly: true}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "slipway.leaveFirst" -}}
lifecycle:
  preStop:
    exec:
      command: [{{ .Values.images.python }}, -c, import time; time.sleep(5)]
{{- end }}

{{- define "slipway.probe" -}}
httpGet: {path: {{ index . 0 }}, port: {{ index . 1 }}}
periodSeconds: {{ index . 2 }}
failureThreshold: {{ index . 3 }}
timeoutSeconds: {{ index . 4 }}
{{- end }}

{{- define "slipway.budgetAndScaling" -}}
{{- if gt (int .pods.replicas) 1 }}
---
apiVersion: {{ .root.Capabilities.APIVersions.Has "policy/v1" | ternary "policy/v1" "policy/v1beta1" }}
kind: PodDisruptionBudget
metadata:
  {{- include "slipway.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "slipway.matching" . | nindent 6 }}
{{- end }}
{{- if .pods.max_replicas }}
---
apiVersion: {{ .root.Capabilities.APIVersions.Has "autoscaling/v2" | ternary "autoscaling/v2" "autoscaling/v2beta2" }}
kind: HorizontalPodAutoscaler
metadata:
  {{- include "slipway.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "slipway.name" .root }}-{{ .component }}}
  minReplicas: {{ .pods.replicas }}
  maxReplicas: {{ .pods.max_replicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .pods.target_cpu_percent }}}
{{- end }}
{{- end }}
