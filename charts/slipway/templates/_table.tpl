{{- /* The routing table that gateways without a controller serve. `default: null` is the base model with its prompt. */}}
{{- define "slipway.table" -}}
{{- $root := . }}
{{- $service := printf "http://%s-vllm.%s.svc:%v" (include "slipway.name" .) .Release.Namespace .Values.vllm.port }}
{{- $upstreams := .Values.upstreams | default (list $service) }}
{{- $routes := dict }}
{{- range $route, $says := .Values.routes }}
  {{- $variants := dict }}
  {{- range $name, $variant := $says.variants }}
    {{- if and (ne $variant.model $says.base_model) (not (hasKey $root.Values.adapters $variant.model)) }}
      {{- fail (printf "routes.%s.variants.%s: there is no %s among adapters, and the base model is %s" $route $name $variant.model $says.base_model) }}
    {{- end }}
    {{- $_ := set $variants $name (set (deepCopy $variant) "upstreams" $upstreams) }}
  {{- end }}
  {{- $stable := $says.default | default $says.base }}
  {{- range $named := compact (list $stable (dig "variant" "" ($says.candidate | default dict))) }}
    {{- if not (hasKey $variants $named) }}
      {{- fail (printf "routes.%s: there is no %s among its variants" $route $named) }}
    {{- end }}
  {{- end }}
  {{- $served := dict "salt" $says.salt "variants" $variants "stable" $stable "epoch" ($says.epoch | default "") }}
  {{- with $says.candidate }}
    {{- if eq .variant $stable }}
      {{- fail (printf "routes.%s: %s is both default and candidate -> leave candidate out" $route .variant) }}
    {{- end }}
    {{- $bp := int (round (mulf .share_percent 100) 0) }}
    {{- $share := eq .mode "shadow" | ternary (dict "mirror_bp" $bp) (dict "share_bp" $bp) }}
    {{- $_ := set $served "candidate" (set $share "variant" .variant) }}
  {{- end }}
  {{- with $says.holdback }}
    {{- $_ := set $served "holdback" (dict "variant" .variant "share_bp" (int (round (mulf .share_percent 100) 0))) }}
  {{- end }}
  {{- with $says.policy }}
    {{- $_ := set $served "policy" . }}
  {{- end }}
  {{- with $says.contract }}
    {{- $_ := set $served "contract" . }}
  {{- end }}
  {{- $_ := set $routes $route $served }}
{{- end }}
{{- toYaml (dict "revision" 1 "routes" $routes) }}
{{- end }}
