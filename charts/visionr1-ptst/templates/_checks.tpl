{{/*
Values that belong together and are given in different places. A release in which they disagree is refused here, with one line.
The definition has the same rules for a PTSTRun that somebody writes by hand (operators/ptst_operator/rules.py).
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
{{- $_ := set $merged $path (mergeOverwrite (deepCopy $common) (include "visionr1.pulled" (list $ $pods) | fromJson)) }}
{{- end }}
{{- toJson $merged }}
{{- end }}

{{- /* The claim's own path, for (list PATH VALUE). */}}
{{- define "visionr1.checkClaimPath" -}}
{{- if has (trimSuffix "/" (index . 1)) (list "" "/tmp" "/dev/shm") }}
{{- fail (printf "%s is %s, where every pod has something else: choose another path, such as /runs" (index . 0) (index . 1)) }}
{{- end }}
{{- end }}

{{- define "visionr1.checkStorage" -}}
{{- $url := .Values.run.storage.url | default "" }}
{{- with (include "visionr1.storage" . | fromJson).claim }}
{{- include "visionr1.checkClaimPath" (list "run.storage.claim.mountPath" (.mountPath | default "/runs")) }}
{{- end }}
{{- $claim := .Values.run.storage.claim | default dict }}
{{- $mount := $claim.mountPath | default "/runs" }}
{{- if hasPrefix "/" $url }}
{{- if not $claim.name }}
{{- fail (printf "run.storage.url is the path %s, but run.storage.claim names no volume: set run.storage.claim.name and mountPath, or give s3://bucket/prefix" $url) }}
{{- end }}
{{- if not (hasPrefix (printf "%s/" (trimSuffix "/" $mount)) $url) }}
{{- fail (printf "run.storage.url is %s, but run.storage.claim.mountPath is %s: the url must be a path below it" $url $mount) }}
{{- end }}
{{- $byHand := false }}
{{- range .Values.operator.volumeMounts }}
{{- if hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $url }}{{ $byHand = true }}{{ end }}
{{- end }}
{{- if and (or .Values.operator.enabled .Values.claim.create) (not $byHand) }}
{{- if ne .Values.claim.name $claim.name }}
{{- fail (printf "claim.name is %q, but run.storage.claim.name is %q: the operator and the pods of the run must mount the same volume, so give both one name" .Values.claim.name $claim.name) }}
{{- end }}
{{- end }}
{{- if and .Values.operator.enabled (not $byHand) (ne .Values.claim.mountPath $mount) }}
{{- fail (printf "claim.mountPath is %s, but run.storage.claim.mountPath is %s: the operator and the pods must find the run directory at the same path, so give both one path" .Values.claim.mountPath $mount) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "visionr1.checkImages" -}}
{{- $pods := .Values.run.pods | default dict }}
{{- if not $pods.image }}
{{- fail "run.pods.image is missing: set it to the trainer image" }}
{{- end }}
{{- $roles := include "visionr1.roles" . | fromJson }}
{{- $head := (index $roles "run.grpo.head").image }}
{{- $workers := (index $roles "run.grpo.workers").image }}
{{- if and (not (contains "@" (printf "%s%s" $head $workers))) (ne (trimSuffix "-cpu" $head) (trimSuffix "-cpu" $workers)) }}
{{- fail (printf "run.grpo.head has the image %s, but run.grpo.workers has %s: the pods of one RayCluster need the same version (they may differ in -cpu at the end)" $head $workers) }}
{{- end }}
{{- end }}

{{- define "visionr1.checkQueue" -}}
{{- $labels := .Values.run.queueLabels | default dict }}
{{- $queues := list }}
{{- range tuple "kueue.x-k8s.io/queue-name" "volcano.sh/queue-name" "kai.scheduler/queue" }}
{{- if hasKey $labels . }}{{ $queues = append $queues . }}{{ end }}
{{- end }}
{{- if gt (len $queues) 1 }}
{{- fail (printf "run.queueLabels has %s: a run waits in one queue, so keep one of them" (join " and " $queues)) }}
{{- end }}
{{- if and (hasKey $labels "kueue.x-k8s.io/priority-class") (not (hasKey $labels "kueue.x-k8s.io/queue-name")) }}
{{- fail "run.queueLabels has kueue.x-k8s.io/priority-class without kueue.x-k8s.io/queue-name: Kueue ignores the run; add the queue's name" }}
{{- end }}
{{- if and (hasKey $labels "volcano.sh/queue-name") (ne (.Values.run.grpo | default dict).cluster "per-stage") }}
{{- fail "run.queueLabels has volcano.sh/queue-name, and for Volcano KubeRay starts no job on a shared RayCluster: set run.grpo.cluster to per-stage" }}
{{- end }}
{{- end }}

{{- define "visionr1.checkElastic" -}}
{{- $grpo := .Values.run.grpo | default dict }}
{{- $deadlines := .Values.run.deadlines | default dict }}
{{- if $grpo.minWorkers }}
{{- if or .Values.run.queueLabels (eq ($grpo.cluster | default "shared") "per-stage") }}
{{- fail "run.grpo.minWorkers needs run.grpo.cluster shared and no run.queueLabels: a queue lets in all pods or none, as KubeRay does with a RayJob's own cluster" }}
{{- end }}
{{- if and $deadlines.pendingSeconds (ge (int ($deadlines.workersSeconds | default 600)) (int $deadlines.pendingSeconds)) }}
{{- fail "run.deadlines.workersSeconds (600 if you do not set it) must be less than pendingSeconds, which ends the attempt" }}
{{- end }}
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
{{- if $given }}
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

{{- define "visionr1.checkNamespace" -}}
{{- $watched := include "visionr1.namespaces" . | fromJsonArray }}
{{- if and .Values.operator.enabled (not (has "*" $watched)) (not (has .Release.Namespace $watched)) }}
{{- fail (printf "operator.watchNamespaces is %s, but the run would be in %s, where no operator sees it: add that namespace, or set run.enabled=false" (join ", " $watched) .Release.Namespace) }}
{{- end }}
{{- end }}

{{- /* The pods of one place: `own` is what the user gave there, `pods` what comes of it with the values of run.pods. */}}
{{- define "visionr1.checkPods" -}}
{{- $pods := .pods }}
{{- $common := .root.Values.run.pods.env | default dict }}
{{- range tuple "AWS_ENDPOINT_URL" "AWS_ENDPOINT_URL_S3" }}
{{- if and (hasKey ($.own.env | default dict) .) (ne (get $.own.env .) (get $common .)) }}
{{- fail (printf "%s.env.%s is %s, but run.pods.env.%s is %q: all pods use one run directory, so set it in run.pods.env alone" $.path . (get $.own.env .) . (get $common .)) }}
{{- end }}
{{- end }}
{{- range $name, $value := .own.labels }}
{{- if include "visionr1.isOwnLabel" $name }}
{{- fail (printf "%s.labels has %s, which tells which run a pod belongs to and is set by the operator or by Kubernetes: remove it" $.path $name) }}
{{- end }}
{{- end }}
{{- include "visionr1.checkQueueOf" (list (printf "%s.labels" .path) .own.labels) }}
{{- range tuple "HTTP_PROXY" "HTTPS_PROXY" "NO_PROXY" }}
{{- $upper := get ($pods.env | default dict) . }}
{{- $lower := get ($pods.env | default dict) (lower .) }}
{{- if and $.own.env $upper $lower (ne $upper $lower) }}
{{- fail (printf "%s.env has %s and %s with different values: some programs read one and some the other; give both one value" $.path . (lower .)) }}
{{- end }}
{{- end }}
{{- if or .own.volumes .own.volumeMounts .own.sharedMemory }}
{{- $places := list "/tmp" }}
{{- with (include "visionr1.storage" .root | fromJson).claim }}{{ $places = append $places (.mountPath | default "/runs" | trimSuffix "/") }}{{ end }}
{{- if $pods.sharedMemory }}{{ $places = append $places "/dev/shm" }}{{ end }}
{{- include "visionr1.checkMounts" (dict "path" .path "pods" $pods "names" (list "scratch" "run" "shared-memory") "places" $places) }}
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
