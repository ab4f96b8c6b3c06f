{{- define "visionr1.name" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "visionr1.selector" -}}
app.kubernetes.io/name: visionr1-ptst
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "visionr1.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: visionr1-ptst
{{ include "visionr1.selector" . }}
{{- end }}

{{- define "visionr1.serviceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (include "visionr1.name" .) }}
{{- end }}

{{- define "visionr1.image" -}}
{{- with .Values.operator.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "visionr1.restrictedPod" -}}
runAsNonRoot: true
{{- with int64 .Values.operator.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "visionr1.placement" -}}
{{- with .Values.operator.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "visionr1.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where an egress rule of ours may lead: not to link-local addresses, at which clouds give a node's credentials to all who ask. */}}
{{- define "visionr1.notLinkLocal" -}}
{{- if .Values.networkPolicy.blockLinkLocal -}}
to:
  - ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
  - ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::254/128"]}
  # Some network plugins do not count pods to a block of addresses.
  - namespaceSelector: {}
{{- end }}
{{- end }}
