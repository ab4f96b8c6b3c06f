{{/*
The pods of a run as the chart gives them to the operator: with the labels, annotations and variables that all pods of the release
have, and images from the registry of an umbrella chart, by its pull secrets.
*/}}
{{- define "visionr1.runPods" -}}
{{- $pods := include "visionr1.given" .Values.run.pods | fromJson }}
{{- $common := dict }}
{{- range $name, $value := include "visionr1.joined" (list .Values.commonLabels .Values.podLabels) | fromJson }}
{{- if not (include "visionr1.isOwnLabel" $name) }}{{ $_ := set $common $name $value }}{{ end }}
{{- end }}
{{- with include "visionr1.joined" (list $common $pods.labels) | fromJson }}
{{- $_ := set $pods "labels" . }}
{{- end }}
{{- with include "visionr1.joined" (list .Values.podAnnotations $pods.annotations) | fromJson }}
{{- $_ := set $pods "annotations" . }}
{{- end }}
{{- with include "visionr1.joined" (list (include "visionr1.proxyVariables" . | fromJson) $pods.env) | fromJson }}
{{- $_ := set $pods "env" . }}
{{- end }}
{{- with include "visionr1.pullSecrets" (list . $pods.imagePullSecrets) | fromJsonArray }}
{{- $_ := set $pods "imagePullSecrets" . }}
{{- end }}
{{- include "visionr1.pulled" (list . $pods) }}
{{- end }}

{{- /* Whether a label tells which run a pod belongs to. The operator and Kubernetes set these, and a run with one of them is refused. */}}
{{- define "visionr1.isOwnLabel" -}}
{{- range tuple "visionr1.io/" "ray.io/" "app.kubernetes.io/" "batch.kubernetes.io/" "training.kubeflow.org/" "jobset.sigs.k8s.io/" }}
{{- if hasPrefix . $ }}true{{ end }}
{{- end }}
{{- end }}

{{- /* Where the run has pods of one role. */}}
{{- define "visionr1.parts" -}}
{sft: [pods], grpo: [head, workers], coldstart: [pods, workers], evaluate: [pods]}
{{- end }}

{{- /* The pods of one place, for (list . PODS), with registry and pull secrets of an umbrella chart for all their images. */}}
{{- define "visionr1.pulled" -}}
{{- $root := index . 0 }}
{{- $pods := index . 1 }}
{{- range $one := prepend ($pods.initContainers | default list) $pods }}
{{- with $one.image }}{{ $_ := set $one "image" (include "visionr1.registered" (list $root .)) }}{{ end }}
{{- end }}
{{- range $pods.volumes }}
{{- with .image }}
{{- if .reference }}{{ $_ := set . "reference" (include "visionr1.registered" (list $root .reference)) }}{{ end }}
{{- end }}
{{- end }}
{{- with $pods.imagePullSecrets }}
{{- $_ := set $pods "imagePullSecrets" (include "visionr1.pullSecrets" (list $root .) | fromJsonArray) }}
{{- end }}
{{- toJson $pods }}
{{- end }}

{{- /* The storage of the run. Where the release has no claim, a run on S3 has no use for the one of the defaults, which null takes away
in few places: not in a parent chart's values.yaml. With one, data and models may be on it. */}}
{{- define "visionr1.storage" -}}
{{- $storage := include "visionr1.given" .Values.run.storage | fromJson }}
{{- $url := $storage.url | default "" }}
{{- if and (hasPrefix "s3://" $url) (not .Values.claim.name) (deepEqual $storage.claim (dict "name" "visionr1-runs" "mountPath" "/runs")) }}
{{- $storage = omit $storage "claim" }}
{{- end }}
{{- with $storage.claim }}
{{- with .mountPath }}{{ $_ := set $storage.claim "mountPath" (trimSuffix "/" . | default "/") }}{{ end }}
{{- end }}
{{- toJson $storage }}
{{- end }}

{{- /* The recipe of the run. The chart's own stages are those of its preset: another preset has its own. Beside recipeFrom, the
chart's own recipe is none: null takes it away in few places, see above. */}}
{{- define "visionr1.recipe" -}}
{{- $recipe := .Values.run.recipe | default dict }}
{{- $ours := `[{"group_size":16,"max_completion_tokens":4096,"steps":100},{"group_size":8,"max_completion_tokens":8192,"steps":100}]` }}
{{- if and (ne ($recipe.preset | default "vision-r1") "vision-r1") (eq (toJson $recipe.stages) $ours) }}
{{- $recipe = omit $recipe "stages" }}
{{- end }}
{{- if and .Values.run.recipeFrom (eq (toJson $recipe) (printf `{"preset":"vision-r1","stages":%s}` $ours)) }}
{{- $recipe = dict }}
{{- end }}
{{- toJson $recipe }}
{{- end }}

{{- /* A mapping without the keys that are null, at any depth: the same as if they were not there. (A recipe's null has a meaning.) */}}
{{- define "visionr1.given" -}}
{{- $made := dict }}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}{{ $value = include "visionr1.given" $value | fromJson }}{{ end }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $made $key $value }}{{ end }}
{{- end }}
{{- toJson $made }}
{{- end }}

{{- define "visionr1.spec" -}}
{{- $spec := include "visionr1.given" (omit .Values.run "enabled" "name" "recipe") | fromJson }}
{{- $_ := set $spec "storage" (include "visionr1.storage" . | fromJson) }}
{{- with include "visionr1.recipe" . | fromJson }}{{ $_ := set $spec "recipe" . }}{{ end }}
{{- with .Values.run.gates }}
{{- $gates := list }}
{{- range . }}{{ $gates = append $gates (include "visionr1.given" . | fromJson) }}{{ end }}
{{- $_ := set $spec "gates" $gates }}
{{- end }}
{{- $_ := set $spec "pods" (include "visionr1.runPods" . | fromJson) }}
{{- range $part, $places := include "visionr1.parts" . | fromYaml }}
{{- $there := get $spec $part | default dict }}
{{- range $place := $places }}
{{- with get $there $place }}
{{- $_ := set $there $place (include "visionr1.pulled" (list $ .) | fromJson) }}
{{- end }}
{{- end }}
{{- end }}
{{- /* Left out, they belong to no release: a person steers the run by kubectl, and the next upgrade does not touch them. */}}
{{- range $steered := tuple "suspend" "restarts" }}
{{- if not (get $spec $steered) }}{{ $_ := unset $spec $steered }}{{ end }}
{{- end }}
{{- toYaml $spec }}
{{- end }}
