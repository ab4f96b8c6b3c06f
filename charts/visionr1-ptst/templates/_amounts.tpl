{{- /* Numbers behind amounts and times, by which checks compare them. Each fails for (list PATH VALUE) if it is none. */}}

{{- /* A quantity of Kubernetes: 0.05 for 50m. */}}
{{- define "visionr1.amount" -}}
{{- $value := index . 1 | toString }}
{{- if not (regexMatch "^([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$" $value) }}
{{- fail (printf "%s is %s: give an amount such as 4, 500m, 64Gi or 2Ti" (index . 0) $value) }}
{{- end }}
{{- $unit := regexFind "[A-Za-z]+$" $value }}
{{- $of := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- mulf (trimSuffix $unit $value | float64) (get $of $unit) }}
{{- end }}

{{- /* Seconds of a time of Prometheus: 90 for 1m30s. */}}
{{- define "visionr1.seconds" -}}
{{- $value := index . 1 | toString }}
{{- if not (regexMatch "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$" $value) }}
{{- fail (printf "%s is %s: give a time such as 15s or 1m30s" (index . 0) $value) }}
{{- end }}
{{- $of := dict "y" 31536000 "w" 604800 "d" 86400 "h" 3600 "m" 60 "s" 1 "ms" 0.001 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+[a-z]+" $value -1 }}
{{- $sum = addf $sum (mulf (regexFind "[0-9]+" . | float64) (get $of (regexFind "[a-z]+" .))) }}
{{- end }}
{{- $sum }}
{{- end }}
