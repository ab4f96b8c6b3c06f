{{- /* Labels of an object for Prometheus or Grafana, for (list . MORE). What is given for it alone is stronger than commonLabels. */}}
{{- define "visionr1.monitoringLabels" -}}
{{- include "visionr1.joined" (list (include "visionr1.labels" (list (index . 0) "monitoring") | fromYaml) (index . 1)) | fromJson | toYaml }}
{{- end }}
