{{- /* The operator's command line; a test compares the flags with `anneal-operator serve --help`. */ -}}
{{- define "anneal.args" -}}
- serve
{{- with .Values.watchNamespaces }}
- --watch-namespaces={{ join "," (uniq .) }}
{{- end }}
{{- if .Values.leaderElection.enabled }}
- --leader-elect
- --lease-namespace={{ include "anneal.leaseNamespace" . }}
{{- with .Values.leaderElection }}
- --lease-seconds={{ .leaseSeconds }}
- --renew-seconds={{ .renewSeconds }}
- --retry-seconds={{ .retrySeconds }}
{{- end }}
{{- else }}
- --no-leader-elect
{{- end }}
- --workers={{ .Values.controller.workers }}
- --progress-seconds={{ .Values.controller.progressSeconds }}
- --qps={{ .Values.client.qps }}
- --burst={{ .Values.client.burst }}
- --log-level={{ .Values.logging.level }}
- --log-format={{ .Values.logging.format }}
- --metrics-address={{ ternary (printf "0.0.0.0:%v" .Values.metrics.port) "0" .Values.metrics.enabled }}
- --health-address=0.0.0.0:{{ .Values.health.port }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
