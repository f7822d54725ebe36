{{/* Name of the operator's objects. */}}
{{- define "bifrost.fullname" -}}
{{- default (printf "%s-operator" .Release.Name) .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* Name of the objects that belong to the cluster: releases of the same name in two namespaces must not meet. */}}
{{- define "bifrost.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "bifrost.fullname" .) -}}
{{- end }}

{{- define "bifrost.serviceAccountName" -}}
{{- default (include "bifrost.fullname" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "bifrost.selectorLabels" -}}
app.kubernetes.io/name: bifrost-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bifrost.labels" -}}
{{ include "bifrost.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: bifrost
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Namespaces that are watched one by one, as a JSON list; empty with watch.cluster. */}}
{{- define "bifrost.namespaces" -}}
{{- if .Values.watch.cluster -}}
[]
{{- else -}}
{{ .Values.watch.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end -}}
{{- end }}

{{/* What the operator may do where it serves gateways. Each rule says why. */}}
{{- define "bifrost.rules" -}}
# What users ask for. The spec is theirs: the operator never writes it.
- apiGroups: [bifrost.dev]
  resources: [bifrostgateways, providerkeys]
  verbs: [get, list, watch]
# What became of it.
- apiGroups: [bifrost.dev]
  resources: [bifrostgateways/status, providerkeys/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion, where the API server asks who may set them.
- apiGroups: [bifrost.dev]
  resources: [bifrostgateways/finalizers]
  verbs: [update]
# Secrets: the values that ProviderKeys name are read, and the gateway's own Secret is made of them. They are watched as
# metadata. RBAC cannot narrow this to owned Secrets, nor to those that are named: it is every Secret here.
# get, list and watch are also what the gateway's own Role grants, and nobody can grant what they do not hold.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# ConfigMaps: the gateway's configuration and split, the addresses for applications, and the CA bundles that gateways name.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# The Service that applications call, and the identity of the gateway's pods.
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# The gateway's pods.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# Which pods are ready and at which address: each is asked what it has loaded.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The pods' right to read exactly their own ConfigMap and Secret.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# How many pods a node drain may take at a time.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Who may open connections to the pods.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# What happened, beside the objects it happened to; patch counts repetitions.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
