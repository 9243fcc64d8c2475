{{- define "mcp-monitor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mcp-monitor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "mcp-monitor.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mcp-monitor.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mcp-monitor.selector" -}}
app.kubernetes.io/name: {{ include "mcp-monitor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcp-monitor.labels" -}}
{{ include "mcp-monitor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "mcp-monitor.account" -}}
{{- default (include "mcp-monitor.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "mcp-monitor.pins" -}}
{{- default (printf "%s-pins" (include "mcp-monitor.fullname" .)) .Values.pins.existingConfigMap -}}
{{- end -}}

{{- define "mcp-monitor.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- /* Speaks to the API at all. */ -}}
{{- define "mcp-monitor.api" -}}
{{- if or .Values.identity.enabled .Values.events.enabled -}}true{{- end -}}
{{- end -}}

{{- /* One capability each; docs/DEPLOY.md says which feature needs which, and why. */ -}}
{{- define "mcp-monitor.capabilities" -}}
{{- $all := list "BPF" "NET_ADMIN" "PERFMON" -}}
{{- if or .Values.features.executables .Values.features.tlsPlaintext -}}{{- $all = append $all "SYS_PTRACE" -}}{{- end -}}
{{- if .Values.features.tlsPlaintext -}}{{- $all = append $all "SYS_ADMIN" -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{- /* The program configuration: what the chart knows, then what the values add. */ -}}
{{- define "mcp-monitor.config" -}}
{{- $http := dict "listen" "127.0.0.1:9464" "probes" (printf "0.0.0.0:%d" (int .Values.http.probePort)) -}}
{{- if .Values.http.exposed -}}
{{- $_ := set $http "listen" (printf "0.0.0.0:%d" (int .Values.http.port)) -}}
{{- $_ := set $http "token" (dict "file" "/etc/mcp-monitor/token/token") -}}
{{- end -}}
{{- $identity := ternary "auto" "never" .Values.identity.enabled -}}
{{- /* What the memory limit below has room for: docs/OPERATIONS.md, "What it takes". */ -}}
{{- $limits := dict "flows" 131072 -}}
{{- $base := dict "http" $http "kubernetes" (dict "identity" $identity) "limits" $limits -}}
{{- if not .Values.features.tlsPlaintext -}}
{{- $_ := set $base "plaintext" (dict "mode" "off") -}}
{{- else -}}
{{- $plaintext := dict "mode" .Values.features.tlsPlaintextMode -}}
{{- with .Values.features.tlsPlaintextNamespaces -}}{{- $_ := set $plaintext "namespaces" . -}}{{- end -}}
{{- $_ := set $base "plaintext" $plaintext -}}
{{- end -}}
{{- $source := dict -}}
{{- if .Values.features.enforcement -}}{{- $_ := set $source "enforce" true -}}{{- end -}}
{{- if .Values.features.seamlessUpgrade -}}{{- $_ := set $source "pin_dir" "/sys/fs/bpf/mcp-monitor" -}}{{- end -}}
{{- if $source -}}{{- $_ := set $base "source" $source -}}{{- end -}}
{{- if .Values.state.hostPath -}}
{{- $_ := set $base "state" (dict "file" "/var/lib/mcp-monitor/state.sqlite") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.config)) -}}
{{- end -}}
