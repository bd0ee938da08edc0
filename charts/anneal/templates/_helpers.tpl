{{- define "anneal.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "anneal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "anneal.name" .) .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "anneal.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "anneal.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "anneal.selectorLabels" -}}
app.kubernetes.io/name: {{ include "anneal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "anneal.labels" -}}
{{ include "anneal.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: anneal
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anneal.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "anneal.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "anneal.leaseNamespace" -}}
{{ default (include "anneal.namespace" .) .Values.leaderElection.namespace }}
{{- end }}

{{- define "anneal.image" -}}
{{- $image := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $image = printf "%s/%s" . $image }}{{ end -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" $image .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" $image (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* What the schema cannot say. */ -}}
{{- define "anneal.check" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) -}}
{{ fail "replicaCount > 1 needs leaderElection.enabled: two operators without a leader would both act" }}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (lt (int .Values.replicaCount) 2) -}}
{{ fail "podDisruptionBudget.enabled needs replicaCount > 1: with one replica it would block every node drain" }}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) -}}
{{ fail "metrics.serviceMonitor.enabled needs metrics.enabled" }}
{{- end -}}
{{- with .Values.leaderElection -}}
{{- if or (le (int .leaseSeconds) (int .renewSeconds)) (le (int .renewSeconds) (int .retrySeconds)) -}}
{{ fail "leaderElection.leaseSeconds has to be more than renewSeconds, that more than retrySeconds" }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* Rights on the objects of one namespace, or of all. Nothing here reads Secrets: workers mount them by reference. */ -}}
{{- define "anneal.rules" -}}
- apiGroups: [anneal.dev]
  resources: [trainjobs, evaljobs, exportjobs]
  verbs: [get, list, watch]
- apiGroups: [anneal.dev]
  resources: [trainjobs/status, evaljobs/status, exportjobs/status]
  verbs: [patch]
# For ownerReferences with blockOwnerDeletion (OwnerReferencesPermissionEnforcement).
- apiGroups: [anneal.dev]
  resources: [trainjobs/finalizers, evaljobs/finalizers, exportjobs/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [create, get, list, watch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, get, list, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [create, get, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [create, get]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.volcano.enabled }}
- apiGroups: [scheduling.volcano.sh]
  resources: [podgroups]
  verbs: [create, get, list, delete]
{{- end }}
{{- end }}

{{- define "anneal.crdMetadata" -}}
labels: {{- include "anneal.labels" . | nindent 2 }}
{{- if or .Values.crds.keep .Values.crds.annotations }}
annotations:
  {{- if .Values.crds.keep }}
  helm.sh/resource-policy: keep
  {{- end }}
  {{- with .Values.crds.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
