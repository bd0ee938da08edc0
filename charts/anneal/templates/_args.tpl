{{- /* The operator's command line; a test compares the flags with `anneal-operator serve --help`. */ -}}
{{- define "anneal.args" -}}
- serve
{{- with .Values.watchNamespaces }}
- --watch-namespaces={{ join "," (uniq .) }}
{{- end }}
{{- if .Values.leaderElection.enabled }}
- --leader-elect
- --lease-namespace={{ include "anneal.leaseNamespace" . }}
{{- else }}
- --no-leader-elect
{{- end }}
- --workers={{ .Values.controller.workers }}
- --progress-seconds={{ .Values.controller.progressSeconds }}
- --metrics-address={{ ternary (printf "0.0.0.0:%v" .Values.metrics.port) "0" .Values.metrics.enabled }}
- --health-address=0.0.0.0:{{ .Values.health.port }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
