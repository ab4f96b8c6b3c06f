{{- /* Beginning of all names: RELEASE, or RELEASE-ALIAS below a parent chart that has this one by an alias. A Service's name begins with a letter and has no dot, and Helm takes
releases such as 123 and a.b. Two long names that begin alike stay two. */}}
{{- define "visionr1.base" -}}
{{- $name := .Values.fullnameOverride }}
{{- if not $name }}
{{- $alias := ternary "" .Chart.Name (eq .Chart.Name "visionr1-ptst") }}
{{- $name = .Release.Name }}
{{- with .Values.nameOverride | default $alias }}{{ $name = printf "%s-%s" $name . }}{{ end }}
{{- end }}
{{- $name = replace "." "-" $name | replace "_" "-" | lower }}
{{- if regexMatch "^[0-9]" $name }}{{ $name = printf "visionr1-%s" $name }}{{ end }}
{{- if gt (len $name) 53 }}{{ $name = printf "%s-%s" (trunc 46 $name | trimSuffix "-") (sha256sum $name | trunc 6) }}{{ end }}
{{- regexReplaceAll "-+$" $name "" }}
{{- end }}

{{- define "visionr1.name" -}}
{{- include "visionr1.base" . }}-operator
{{- end }}

{{- define "visionr1.appName" -}}
{{- .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "visionr1.selector" -}}
{{- dict "app.kubernetes.io/name" (include "visionr1.appName" .) "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/component" "operator" | toYaml }}
{{- end }}

{{- /* Mappings as one in JSON, of a list: a later one is stronger, also with an empty text, which Helm's own merge takes for no value.
toYaml is for what is written alone: it takes the line break away with which its last text ends. */}}
{{- define "visionr1.joined" -}}
{{- $made := dict }}
{{- range . }}{{ range $key, $value := . }}{{ $_ := set $made $key $value }}{{ end }}{{ end }}
{{- toJson $made }}
{{- end }}

{{- /* A version as a label: of any length, and with + before what a build adds. */}}
{{- define "visionr1.asLabel" -}}
{{- regexReplaceAll "[^a-zA-Z0-9]+$" (replace "+" "_" . | trunc 63) "" }}
{{- end }}

{{- /* Labels of an object, for (list . COMPONENT). By toYaml, so that a release called 123 is no number. Those of selectors cannot be
changed (see checkOwnLabels). */}}
{{- define "visionr1.labels" -}}
{{- $root := index . 0 }}
{{- $ours := dict "helm.sh/chart" (include "visionr1.asLabel" (printf "%s-%s" $root.Chart.Name $root.Chart.Version))
  "app.kubernetes.io/name" (include "visionr1.appName" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" (include "visionr1.asLabel" $root.Chart.AppVersion)
  "app.kubernetes.io/component" (index . 1)
  "app.kubernetes.io/part-of" "visionr1-ptst"
  "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- include "visionr1.joined" (list $ours $root.Values.commonLabels) | fromJson | toYaml }}
{{- end }}

{{- /* Labels of a pod, for (list . COMPONENT MORE). */}}
{{- define "visionr1.podLabels" -}}
{{- $root := index . 0 }}
{{- $ours := include "visionr1.labels" (list $root (index . 1)) | fromYaml }}
{{- include "visionr1.joined" (list $ours $root.Values.podLabels (index . 2)) | fromJson | toYaml }}
{{- end }}

{{- /* Labels and annotations of a pod that must end: a proxy beside it would keep it, and its Job, for ever. */}}
{{- define "visionr1.jobPodMetadata" -}}
{{- $root := index . 0 }}
labels: {{- include "visionr1.podLabels" (list $root (index . 1) (dict "sidecar.istio.io/inject" (get ($root.Values.podLabels | default dict) "sidecar.istio.io/inject" | default "false"))) | nindent 2 }}
annotations: {{ include "visionr1.joined" (list (dict "linkerd.io/inject" "disabled") $root.Values.podAnnotations) }}
{{- end }}

{{- define "visionr1.serviceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (ternary (include "visionr1.name" .) "default" .Values.operator.serviceAccount.create) }}
{{- end }}

{{- /* An image without a registry, from the one of an umbrella chart. */}}
{{- define "visionr1.registered" -}}
{{- $image := index . 1 }}
{{- $registry := ((index . 0).Values.global | default dict).imageRegistry }}
{{- if and $registry (not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" $image)) }}{{ trimSuffix "/" $registry }}/{{ end }}{{ $image }}
{{- end }}

{{- define "visionr1.image" -}}
{{- with .Values.operator.image }}
{{- $image := printf "%s:%s" .repository (.tag | default (replace "+" "_" $.Chart.AppVersion)) }}
{{- if .digest }}{{ $image = printf "%s@%s" .repository .digest }}{{ end }}
{{- include "visionr1.registered" (list $ $image) }}
{{- end }}
{{- end }}

{{- /* The variables of a proxy by name, in upper and lower case; {} without one. */}}
{{- define "visionr1.proxyVariables" -}}
{{- $made := dict }}
{{- with .Values.proxy }}
{{- if or .httpProxy .httpsProxy }}
{{- $direct := "localhost,127.0.0.1,::1,.svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)" }}
{{- range $name, $value := dict "HTTP_PROXY" .httpProxy "HTTPS_PROXY" .httpsProxy "NO_PROXY" (trimSuffix "," (printf "%s,%s" $direct (.noProxy | default ""))) }}
{{- if $value }}{{ $_ := set $made $name $value }}{{ $_ := set $made (lower $name) $value }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $made }}
{{- end }}

{{- define "visionr1.operatorEnv" -}}
{{- include "visionr1.joined" (list (include "visionr1.proxyVariables" . | fromJson) .Values.operator.env) }}
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

{{- /* Pull secrets as a list in JSON, for (list . OWN): with those of an umbrella chart, which may be names alone. */}}
{{- define "visionr1.pullSecrets" -}}
{{- $all := index . 1 | default list }}
{{- range ((index . 0).Values.global | default dict).imagePullSecrets }}
{{- $all = append $all (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- uniq $all | toJson }}
{{- end }}

{{- define "visionr1.placement" -}}
{{- with include "visionr1.pullSecrets" (list . .Values.operator.imagePullSecrets) | fromJsonArray }}
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

{{- /* Namespaces that the operator looks after, as a list in JSON; ["*"] is all. */}}
{{- define "visionr1.namespaces" -}}
{{- $all := .Values.operator.watchNamespaces | default (list .Release.Namespace) }}
{{- if has "*" $all }}{{ $all = list "*" }}{{ end }}
{{- uniq $all | toJson }}
{{- end }}

{{- /* The rule for DNS, if it has a port: a rule without ports opens all. */}}
{{- define "visionr1.dns" -}}
{{- with .Values.networkPolicy.dnsPorts -}}
- ports:
    {{- range . }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{- /* TCP ports that the operator may connect to, as a list in JSON: also those of a proxy and of S3 that its variables name. */}}
{{- define "visionr1.egressPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.operatorEgressPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- range $name, $url := include "visionr1.operatorEnv" . | fromJson }}
{{- $url = trim $url | lower }}
{{- if and $url (regexMatch "^(AWS_ENDPOINT_URL(_.+)?|HTTPS?_PROXY)$" (upper $name)) }}
{{- $host := regexReplaceAll "^([^/@]+://)?([^/@]*@)?([^/?#]*).*$" $url "${3}" }}
{{- $given := regexFind ":[0-9]+$" $host | trimPrefix ":" }}
{{- $ports = append $ports (int ($given | default (ternary "443" "80" (hasPrefix "https://" $url)))) }}
{{- end }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{- /* Where an egress rule of ours may lead: not to addresses at which clouds give a node's credentials to all who ask. These are
link-local, but for those of Alibaba (100.100.100.200), Azure (168.63.129.16), AWS (fd00:ec2::) and Google (fd20:ce::254). */}}
{{- define "visionr1.notLinkLocal" -}}
{{- if .Values.networkPolicy.blockLinkLocal -}}
to:
  - ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16, 100.100.100.200/32, 168.63.129.16/32]}
  - ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128"]}
  # Some network plugins do not count pods to a block of addresses.
  - namespaceSelector: {}
{{- end }}
{{- end }}

{{- /* Rules for the addresses from which a cloud gives a pod its keys. */}}
{{- define "visionr1.cloudIdentity" -}}
{{- with .Values.networkPolicy.cloudIdentity }}
{{- if eq . "eks" }}
# The agent of EKS Pod Identity on each node.
- ports: [{port: 80, protocol: TCP}]
  to: [{ipBlock: {cidr: 169.254.170.23/32}}, {ipBlock: {cidr: "fd00:ec2::23/128"}}]
{{- else if eq . "gke" }}
# GKE's metadata server on each node, which knows pods apart.
- ports: [{port: 80, protocol: TCP}, {port: 987, protocol: TCP}, {port: 988, protocol: TCP}]
  to: [{ipBlock: {cidr: 169.254.169.252/32}}, {ipBlock: {cidr: 169.254.169.254/32}}]
{{- else }}
# The metadata service of EC2 and Azure: the keys of the node.
- ports: [{port: 80, protocol: TCP}]
  to: [{ipBlock: {cidr: 169.254.169.254/32}}, {ipBlock: {cidr: "fd00:ec2::254/128"}}]
{{- end }}
{{- end }}
{{- end }}
