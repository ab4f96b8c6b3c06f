{{- /* Values of the platform itself that the API server would refuse in the middle of an installation. */}}
{{- define "visionr1.checkPlatform" -}}
{{- range $path, $name := dict "claim.name" .Values.claim.name "operator.serviceAccount.name" .Values.operator.serviceAccount.name }}
{{- if and $name (or (gt (len $name) 253) (not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" $name))) }}
{{- fail (printf "%s is %q: give at most 253 lower-case letters, digits, - and ., with a letter or digit first and last" $path $name) }}
{{- end }}
{{- end }}
{{- with .Values.operator.image }}
{{- if regexMatch "(:[^/]*|@.*)$" .repository }}
{{- fail (printf "operator.image.repository is %s: give what stands after : or @ in operator.image.tag or operator.image.digest" .repository) }}
{{- end }}
{{- end }}
{{- $families := .Values.service.ipFamilies | default list }}
{{- if without $families "IPv4" "IPv6" }}
{{- fail (printf "service.ipFamilies is %s: give IPv4, IPv6 or both" (join ", " $families)) }}
{{- end }}
{{- if and (gt (len $families) 1) (eq (.Values.service.ipFamilyPolicy | default "SingleStack") "SingleStack") }}
{{- fail "service.ipFamilies has two, but service.ipFamilyPolicy allows one: set it to PreferDualStack" }}
{{- end }}
{{- if and .Values.claim.name .Values.claim.create }}
{{- $_ := include "visionr1.amount" (list "claim.size" .Values.claim.size) }}
{{- end }}
{{- range $path, $resources := dict "operator.resources" .Values.operator.resources "jobs.resources" .Values.jobs.resources "doctor.resources" .Values.doctor.resources }}
{{- include "visionr1.checkResources" (list $path $resources) }}
{{- end }}
{{- $monitor := .Values.monitoring.podMonitor }}
{{- $seconds := dict }}
{{- range $key := tuple "interval" "scrapeTimeout" }}
{{- with get $monitor $key }}{{ $_ := set $seconds $key (include "visionr1.seconds" (list (printf "monitoring.podMonitor.%s" $key) .) | float64) }}{{ end }}
{{- end }}
{{- if and (eq (len $seconds) 2) (gt $seconds.scrapeTimeout $seconds.interval) }}
{{- fail (printf "monitoring.podMonitor.scrapeTimeout is %s, longer than interval (%s): give at most as long" $monitor.scrapeTimeout $monitor.interval) }}
{{- end }}
{{- end }}

{{- /* Fails for (list PATH RESOURCES) if an amount is none, or if more is asked for than the limit. */}}
{{- define "visionr1.checkResources" -}}
{{- $path := index . 0 }}
{{- $resources := index . 1 }}
{{- $found := dict "requests" dict "limits" dict }}
{{- range $part, $amounts := $found }}
{{- range $name, $amount := get $resources $part | default dict }}
{{- $_ := set $amounts $name (include "visionr1.amount" (list (printf "%s.%s.%s" $path $part $name) $amount) | float64) }}
{{- end }}
{{- end }}
{{- range $name, $asked := $found.requests }}
{{- if and (hasKey $found.limits $name) (gt $asked (get $found.limits $name)) }}
{{- fail (printf "%s.requests.%s is %v, more than %s.limits.%s (%v): raise the limit, too" $path $name (get $resources.requests $name) $path $name (get $resources.limits $name)) }}
{{- end }}
{{- end }}
{{- end }}
