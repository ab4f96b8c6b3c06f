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
{{- end }}
