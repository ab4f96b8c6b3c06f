{{/*
Values that belong together and are given in different places. A release in which they disagree is refused here, with one line.
The definition has the same rules for a PTSTRun that somebody writes by hand (operators/ptst_operator/rules.py). The rules of the
run itself are in run/_checks.tpl, those of the operator alone in operator/_checks.tpl.
*/}}
{{- define "visionr1.checks" -}}
{{- range $path, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "operator.podLabels" .Values.operator.podLabels }}
{{- include "visionr1.checkOwnLabels" (list $path $labels) }}
{{- end }}
{{- with .Values.nameOverride }}{{ include "visionr1.checkName" (list "nameOverride" . 63 "[a-z0-9]") }}{{ end }}
{{- with .Values.fullnameOverride }}{{ include "visionr1.checkName" (list "fullnameOverride" . 253 "[a-z0-9]") }}{{ end }}
{{- if .Values.run.enabled }}{{ include "visionr1.checkName" (list "run.name" .Values.run.name 33 "[a-z]") }}{{ end }}
{{- if .Values.operator.enabled }}
{{- $places := list "/tmp" }}
{{- if .Values.claim.name }}
{{- include "visionr1.checkClaimPath" (list "claim.mountPath" .Values.claim.mountPath) }}
{{- $places = append $places (trimSuffix "/" .Values.claim.mountPath) }}
{{- end }}
{{- range $kind := tuple "env" "envValueFrom" }}
{{- range $name, $_ := get $.Values.operator $kind | default dict }}
{{- if has $name (list "POD_NAMESPACE" "POD_NAME") }}
{{- fail (printf "operator.%s has %s, which the chart sets from the pod itself: remove it" $kind $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- include "visionr1.checkMounts" (dict "path" "operator" "pods" .Values.operator "names" (list "scratch" "runs") "places" $places) }}
{{- end }}
{{- include "visionr1.checkPlatform" . }}
{{- include "visionr1.checkProxy" . }}
{{- if .Values.run.enabled }}
{{- include "visionr1.checkNamespace" . }}
{{- include "visionr1.checkRecipe" . }}
{{- include "visionr1.checkGates" . }}
{{- include "visionr1.checkStorage" . }}
{{- include "visionr1.checkImages" . }}
{{- include "visionr1.checkQueue" . }}
{{- include "visionr1.checkElastic" . }}
{{- include "visionr1.checkVariables" . }}
{{- if and .Values.operator.enabled .Values.admission.enabled }}{{ include "visionr1.checkAllowed" . }}{{ end }}
{{- include "visionr1.checkQueueOf" (list "commonLabels" .Values.commonLabels) }}
{{- include "visionr1.checkQueueOf" (list "podLabels" .Values.podLabels) }}
{{- $roles := include "visionr1.roles" . | fromJson }}
{{- range $path, $own := include "visionr1.places" . | fromJson }}
{{- include "visionr1.checkPods" (dict "path" $path "own" $own "pods" (get $roles $path) "root" $) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Fails for (list PATH NAME LENGTH FIRST) if Kubernetes does not take the name. */}}
{{- define "visionr1.checkName" -}}
{{- $name := index . 1 }}
{{- if or (gt (len $name) (index . 2)) (not (regexMatch (printf "^%s([-a-z0-9]*[a-z0-9])?$" (index . 3)) $name)) }}
{{- fail (printf "%s is %q: give at most %d lower-case letters, digits and -, with a %s first" (index . 0) $name (index . 2) (ternary "letter" "letter or digit" (eq (index . 3) "[a-z]"))) }}
{{- end }}
{{- end }}

{{- /* What the user gave for the pods of the run: of all (run.pods), and of each role, by the path of the value. */}}
{{- define "visionr1.places" -}}
{{- $run := include "visionr1.given" (omit .Values.run "recipe") | fromJson }}
{{- $places := dict "run.pods" $run.pods }}
{{- range $part, $roles := include "visionr1.parts" . | fromYaml }}
{{- range $role := $roles }}
{{- with get (get $run $part | default dict) $role }}{{ $_ := set $places (printf "run.%s.%s" $part $role) . }}{{ end }}
{{- end }}
{{- end }}
{{- toJson $places }}
{{- end }}

{{- /* The pods of each place as they will be: a role's own lists take the place of those of run.pods. */}}
{{- define "visionr1.roles" -}}
{{- $common := include "visionr1.runPods" . | fromJson }}
{{- $merged := dict "run.grpo.head" $common "run.grpo.workers" $common }}
{{- range $path, $pods := include "visionr1.places" . | fromJson }}
{{- $made := mergeOverwrite (deepCopy $common) (include "visionr1.pulled" (list $ $pods) | fromJson) }}
{{- /* An empty list is a role's own, too; mergeOverwrite passes over it. */}}
{{- range tuple "volumes" "volumeMounts" }}
{{- if hasKey $pods . }}{{ $_ := set $made . (get $pods .) }}{{ end }}
{{- end }}
{{- $_ := set $merged $path $made }}
{{- end }}
{{- toJson $merged }}
{{- end }}

{{- /* The claim's own path, for (list PATH VALUE). */}}
{{- define "visionr1.checkClaimPath" -}}
{{- if has (trimSuffix "/" (index . 1)) (list "" "/tmp" "/dev/shm") }}
{{- fail (printf "%s is %s, where every pod has something else: choose another path, such as /runs" (index . 0) (index . 1)) }}
{{- end }}
{{- end }}

{{- /* S3's address is a variable of the operator and of the pods. */}}
{{- define "visionr1.checkVariables" -}}
{{- $pods := .Values.run.pods | default dict }}
{{- $ours := .Values.operator.env | default dict }}
{{- $theirs := $pods.env | default dict }}
{{- if and .Values.operator.enabled (hasPrefix "s3://" (.Values.run.storage.url | default "")) }}
{{- range tuple "AWS_ENDPOINT_URL" "AWS_ENDPOINT_URL_S3" "AWS_REGION" "AWS_DEFAULT_REGION" }}
{{- $one := get $ours . }}
{{- $other := get $theirs . }}
{{- if and $one $other (ne $one $other) }}
{{- fail (printf "operator.env.%s is %s, but run.pods.env.%s is %s: the operator and the pods must use the same S3, so give both one value" . $one . $other) }}
{{- end }}
{{- if contains "ENDPOINT" . }}
{{- $given := or $one (hasKey ($.Values.operator.envValueFrom | default dict) .) }}
{{- $otherGiven := or $other (hasKey ($pods.envValueFrom | default dict) .) }}
{{- if and $given (not $otherGiven) (not $pods.envFrom) }}
{{- fail (printf "operator.env%s has %s, but run.pods.env has not: the pods would look for the run directory on another S3; set it there, too" (ternary "" "ValueFrom" (not (empty $one))) .) }}
{{- end }}
{{- if and $otherGiven (not $given) (not $.Values.operator.envFrom) }}
{{- fail (printf "run.pods.env%s has %s, but operator.env has not: the operator would look for the run directory on another S3; set it there, too" (ternary "" "ValueFrom" (not (empty $other))) .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Fails for (list PATH ADDRESS SCHEME) if nothing can be reached there. S3's libraries want a scheme; a proxy is http without one. */}}
{{- define "visionr1.checkAddress" -}}
{{- $given := trimAll " " (index . 1) }}
{{- if index . 1 }}
{{- $form := printf "^(?i)(%s)([^\\s/@]*@)?([^\\s/@:?#\\[\\]]+|\\[[0-9a-z:.%%]+\\])(:[0-9]{1,5})?([/?#]\\S*)?$" (index . 2) }}
{{- $port := regexReplaceAll $form $given "${4}" | trimPrefix ":" | default "1" }}
{{- if or (not (regexMatch $form $given)) (lt (int $port) 1) (gt (int $port) 65535) }}
{{- fail (printf "%s is no address that a program can reach: give it as http://HOST:PORT or https://HOST, with a port below 65536" (index . 0)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A proxy becomes variables of every pod, in both cases: one of them by hand beside it would make pods differ. */}}
{{- define "visionr1.checkProxy" -}}
{{- $places := dict }}
{{- if .Values.operator.enabled }}{{ $_ := set $places "operator" .Values.operator }}{{ end }}
{{- if .Values.run.enabled }}{{ $places = merge $places (include "visionr1.places" . | fromJson) }}{{ end }}
{{- $proxy := "(?:[a-z][a-z0-9+.-]*://)?" }}
{{- range tuple "httpProxy" "httpsProxy" }}{{ include "visionr1.checkAddress" (list (printf "proxy.%s" .) (get $.Values.proxy . | default "") $proxy) }}{{ end }}
{{- range $path, $pods := $places }}
{{- range $name, $value := $pods.env | default dict }}
{{- if regexMatch "^AWS_ENDPOINT_URL(_S3)?$" $name }}{{ include "visionr1.checkAddress" (list (printf "%s.env.%s" $path $name) $value "https?://") }}{{ end }}
{{- if has (upper $name) (list "HTTP_PROXY" "HTTPS_PROXY") }}{{ include "visionr1.checkAddress" (list (printf "%s.env.%s" $path $name) $value $proxy) }}{{ end }}
{{- end }}
{{- end }}
{{- if or .Values.proxy.httpProxy .Values.proxy.httpsProxy .Values.proxy.noProxy }}
{{- range $path, $pods := $places }}
{{- range $kind := tuple "env" "envValueFrom" }}
{{- range $name, $_ := get $pods $kind | default dict }}
{{- if has (upper $name) (list "HTTP_PROXY" "HTTPS_PROXY" "NO_PROXY") }}
{{- fail (printf "%s.%s has %s beside the values of proxy: give it in proxy alone" $path $kind $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Labels of everything, for (list PATH LABELS): those by which the chart, the operator and Kubernetes find their objects are not
for others. A parent's app.kubernetes.io/part-of takes the place of ours. */}}
{{- define "visionr1.checkOwnLabels" -}}
{{- range $name, $_ := index . 1 }}
{{- $ours := has $name (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" "helm.sh/chart") }}
{{- if or $ours (and (include "visionr1.isOwnLabel" $name) (not (hasPrefix "app.kubernetes.io/" $name))) }}
{{- fail (printf "%s has %s, which the chart, the operator or Kubernetes sets to find its own objects: remove it" (index $ 0) $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "visionr1.checkQueueOf" -}}
{{- range tuple "kueue.x-k8s.io/queue-name" "volcano.sh/queue-name" "kai.scheduler/queue" }}
{{- if hasKey (index $ 1 | default dict) . }}
{{- fail (printf "%s has %s: put it in run.queueLabels, so that the whole job waits in the queue and not each pod for itself" (index $ 0) .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "visionr1.checkMounts" -}}
{{- $there := list }}
{{- $places := .places }}
{{- range .pods.volumes }}
{{- if not .name }}
{{- fail (printf "%s.volumes has an entry without name: give it one (%s)" $.path (toJson .)) }}
{{- end }}
{{- if has .name $there }}
{{- fail (printf "%s.volumes has two volumes called %s: give one of them another name" $.path .name) }}
{{- end }}
{{- $there = append $there .name }}
{{- if has .name $.names }}
{{- fail (printf "%s.volumes has a volume called %s, which is the name of one that every such pod has: give yours another name" $.path .name) }}
{{- end }}
{{- end }}
{{- range .pods.volumeMounts }}
{{- if not (and .name .mountPath) }}
{{- fail (printf "%s.volumeMounts has an entry without %s: give both name and mountPath (%s)" $.path (ternary "mountPath" "name" (not (empty .name))) (toJson .)) }}
{{- end }}
{{- if not (has .name $there) }}
{{- fail (printf "%s.volumeMounts names the volume %s, which %s.volumes does not have (%s)" $.path .name $.path (join ", " $there | default "it is empty")) }}
{{- end }}
{{- if has (trimSuffix "/" .mountPath) $places }}
{{- fail (printf "%s.volumeMounts mounts %s at %s, where something else is mounted already: choose another path" $.path .name .mountPath) }}
{{- end }}
{{- $places = append $places (trimSuffix "/" .mountPath) }}
{{- end }}
{{- end }}
