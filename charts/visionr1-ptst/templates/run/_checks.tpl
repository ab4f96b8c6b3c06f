{{/*
What a run may be, as _checks.tpl includes it. What the definition refuses in a PTSTRun must be refused here, too: Helm would have
made the rest of the release before the API server refuses the run.
*/}}
{{- define "visionr1.checkNamespace" -}}
{{- $watched := include "visionr1.namespaces" . | fromJsonArray }}
{{- if and .Values.operator.enabled (not (has "*" $watched)) (not (has .Release.Namespace $watched)) }}
{{- fail (printf "operator.watchNamespaces is %s, but the run would be in %s, where no operator sees it: add that namespace, or set run.enabled=false" (join ", " $watched) .Release.Namespace) }}
{{- end }}
{{- end }}

{{- define "visionr1.checkRecipe" -}}
{{- $recipe := include "visionr1.recipe" . | fromJson }}
{{- if and $recipe .Values.run.recipeFrom }}
{{- fail "run.recipe and run.recipeFrom are both there: a run has one recipe, so set one of them to null" }}
{{- end }}
{{- if not (or $recipe .Values.run.recipeFrom) }}
{{- fail "run.recipe is empty: give a preset (preset: vision-r1) or a recipe, or name a ConfigMap with it in run.recipeFrom" }}
{{- end }}
{{- if .Values.run.recipeFrom }}
{{- if not .Values.run.recipeFrom.configMap }}
{{- fail "run.recipeFrom has no configMap: give the name of the ConfigMap with the recipe, or set run.recipeFrom to null" }}
{{- end }}
{{- end }}
{{- $products := list }}
{{- range $recipe.stages }}{{ $products = append $products (mul .max_completion_tokens .group_size) }}{{ end }}
{{- if and (gt (len (uniq $products)) 1) (not .Values.run.allowUnequalStages) }}
{{- fail (printf "run.recipe.stages have max_completion_tokens x group_size of %s: PTST keeps it the same in all stages; set run.allowUnequalStages to true if you mean it" (join ", " $products)) }}
{{- end }}
{{- end }}

{{- define "visionr1.checkGates" -}}
{{- range $index, $gate := .Values.run.gates }}
{{- $path := printf "run.gates[%d]" $index }}
{{- $min := kindIs "invalid" $gate.min | not }}
{{- $max := kindIs "invalid" $gate.max | not }}
{{- if not (or $min $max) }}
{{- fail (printf "%s has no bound: give min, max or both" $path) }}
{{- end }}
{{- if and $min $max (gt (float64 $gate.min) (float64 $gate.max)) }}
{{- fail (printf "%s has min %v, which is larger than its max %v: exchange them" $path $gate.min $gate.max) }}
{{- end }}
{{- if and $gate.rollbackTo (ne ($gate.action | default "Hold") "Rollback") }}
{{- fail (printf "%s has rollbackTo without action Rollback: set action to Rollback, or remove rollbackTo" $path) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "visionr1.checkStorage" -}}
{{- $url := .Values.run.storage.url | default "" }}
{{- if not $url }}
{{- fail "run.storage.url is missing: give a path below run.storage.claim.mountPath, or s3://bucket/prefix" }}
{{- end }}
{{- if has ".." (splitList "/" $url) }}
{{- fail (printf "run.storage.url is %s: write the path without '..'" $url) }}
{{- end }}
{{- with (include "visionr1.storage" . | fromJson).claim }}
{{- if not .name }}
{{- fail "run.storage.claim has no name: give that of the volume of the run directory, or set run.storage.claim to null" }}
{{- end }}
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
{{- if and .Values.operator.enabled (not $byHand) (ne (trimSuffix "/" .Values.claim.mountPath) (trimSuffix "/" $mount)) }}
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

{{- /* The pods of one place: `own` is what the user gave there, `pods` what comes of it with the values of run.pods. */}}
{{- define "visionr1.checkPods" -}}
{{- $pods := .pods }}
{{- $common := (index (include "visionr1.places" .root | fromJson) "run.pods").env | default dict }}
{{- range tuple "AWS_ENDPOINT_URL" "AWS_ENDPOINT_URL_S3" }}
{{- if and (hasKey ($.own.env | default dict) .) (or (not (hasKey $common .)) (ne (get $.own.env .) (get $common .))) }}
{{- fail (printf "%s.env.%s is %s, but run.pods.env.%s is %q: all pods use one run directory, so set it in run.pods.env alone" $.path . (get $.own.env .) . (get $common .)) }}
{{- end }}
{{- end }}
{{- range $name := tuple "RAY_AUTH_MODE" "RAY_AUTH_TOKEN" "RAY_AUTH_TOKEN_PATH" }}
{{- range $kind := tuple "env" "envValueFrom" }}
{{- if hasKey (get $.own $kind | default dict) $name }}
{{- fail (printf "%s.%s has %s, which KubeRay sets, so that Ray asks for a token: remove it" $.path $kind $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := .own.labels }}
{{- if include "visionr1.isOwnLabel" $name }}
{{- fail (printf "%s.labels has %s, which tells which run a pod belongs to and is set by the operator or by Kubernetes: remove it" $.path $name) }}
{{- end }}
{{- end }}
{{- if and (eq .path "run.pods") (gt (len ($pods.labels | default dict)) 64) }}
{{- fail (printf "run.pods.labels has %d labels with those of commonLabels and podLabels: a run's pods have 64 at most, so remove some" (len $pods.labels)) }}
{{- end }}
{{- include "visionr1.checkQueueOf" (list (printf "%s.labels" .path) .own.labels) }}
{{- range tuple "HTTP_PROXY" "HTTPS_PROXY" "NO_PROXY" }}
{{- $upper := get ($pods.env | default dict) . }}
{{- $lower := get ($pods.env | default dict) (lower .) }}
{{- $own := $.own.env | default dict }}
{{- $both := and (hasKey $own .) (hasKey $own (lower .)) (ne (get $own .) (get $own (lower .))) }}
{{- if or $both (and $own $upper $lower (ne $upper $lower)) }}
{{- fail (printf "%s.env has %s and %s with different values: some programs read one and some the other; give both one value" $.path . (lower .)) }}
{{- end }}
{{- end }}
{{- if or (hasKey .own "volumes") (hasKey .own "volumeMounts") .own.sharedMemory }}
{{- $places := list "/tmp" }}
{{- with (include "visionr1.storage" .root | fromJson).claim }}{{ $places = append $places (.mountPath | default "/runs" | trimSuffix "/") }}{{ end }}
{{- if $pods.sharedMemory }}{{ $places = append $places "/dev/shm" }}{{ end }}
{{- include "visionr1.checkMounts" (dict "path" .path "pods" $pods "names" (list "scratch" "run" "shared-memory") "places" $places) }}
{{- end }}
{{- end }}
