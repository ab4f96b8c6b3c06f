{{- /* The chart's own run against the chart's own admission policy (operator/admission.yaml), which would refuse it at the API server. */}}
{{- define "visionr1.checkAllowed" -}}
{{- $limits := .Values.admission }}
{{- $accounts := append ($limits.serviceAccounts | default list) "default" }}
{{- range $path, $pods := include "visionr1.places" . | fromJson }}
{{- if and (kindIs "string" $pods.serviceAccountName) (not (has $pods.serviceAccountName $accounts)) }}
{{- fail (printf "%s.serviceAccountName is %q, which admission.serviceAccounts does not have: add it there, so that runs may use it" $path $pods.serviceAccountName) }}
{{- end }}
{{- with $limits.images }}
{{- range $place, $image := include "visionr1.imagesOf" $pods | fromJson }}
{{- include "visionr1.checkBeginning" (list (printf "%s.%s" $path $place) (include "visionr1.registered" (list $ $image)) "admission.images" $limits.images) }}
{{- end }}
{{- end }}
{{- if and $limits.priorityClasses (kindIs "string" $pods.priorityClassName) (not (has $pods.priorityClassName $limits.priorityClasses)) }}
{{- fail (printf "%s.priorityClassName is %q, which admission.priorityClasses does not have: add it there, or take one of them" $path $pods.priorityClassName) }}
{{- end }}
{{- range $toleration := ternary ($pods.tolerations | default list) list (not (empty $limits.tolerations)) }}
{{- if not (has ($toleration.key | default "") $limits.tolerations) }}
{{- fail (printf "%s.tolerations has the key %q, which admission.tolerations does not have: add it there, or remove the toleration" $path ($toleration.key | default "")) }}
{{- end }}
{{- end }}
{{- end }}
{{- with $limits.storage }}
{{- $there := list }}
{{- range . }}{{ $there = append $there (replace "{namespace}" $.Release.Namespace .) }}{{ end }}
{{- include "visionr1.checkBeginning" (list "run.storage.url" $.Values.run.storage.url "admission.storage" $there) }}
{{- end }}
{{- end }}

{{- /* Images that a place of the run names, by the rest of their path. */}}
{{- define "visionr1.imagesOf" -}}
{{- $images := dict }}
{{- with .image }}{{ $_ := set $images "image" . }}{{ end }}
{{- range $number, $one := .initContainers }}{{ $_ := set $images (printf "initContainers[%d].image" $number) ($one.image | default "") }}{{ end }}
{{- range $number, $one := .volumes }}
{{- with $one.image }}{{ $_ := set $images (printf "volumes[%d].image.reference" $number) (.reference | default "") }}{{ end }}
{{- end }}
{{- toJson $images }}
{{- end }}

{{- /* Fails for (list PATH VALUE LIMIT BEGINNINGS) if the value has none of these beginnings. */}}
{{- define "visionr1.checkBeginning" -}}
{{- $value := index . 1 }}
{{- $found := false }}
{{- range index . 3 }}{{ if hasPrefix . $value }}{{ $found = true }}{{ end }}{{ end }}
{{- if not $found }}
{{- fail (printf "%s is %s, but %s allows only what begins with %s: add a beginning there, or change the value" (index . 0) $value (index . 2) (join " or " (index . 3))) }}
{{- end }}
{{- end }}
