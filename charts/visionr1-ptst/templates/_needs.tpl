{{/*
What the run needs, for the notes. Counts follow from the values; memory, storage and hours were planned by visionr1 plan for the
chart's own values and presets, and are in needs.yaml.
*/}}
{{- define "visionr1.needs" -}}
{{- $table := .Files.Get "needs.yaml" | fromYaml }}
{{- $recipe := include "visionr1.recipe" . | fromJson }}
{{- $preset := get $table.presets (get $recipe "preset" | default "") }}
{{- if $preset }}
{{- $base := ($recipe.model | default dict).base | default $preset.base }}
{{- $rollout := $recipe.rollout | default dict }}
{{- $nodes := int (dig "sft" "nodes" 1 .Values.run) }}
{{- $processes := int $preset.processes }}
{{- if hasKey $recipe "sft" }}
{{- $processes = int (dig "processes" (ternary $preset.processes 8 (gt (int $preset.processes) 0)) ($recipe.sft | default (dict "processes" 0))) }}
{{- end }}
{{- $sft := mul $nodes $processes | int }}
{{- $workers := ternary 0 (int (dig "workers" $preset.workers $rollout)) (eq (int $preset.workers) 0) }}
{{- $scored := 1 }}
{{- with $recipe.stages }}
{{- $scored = int (dig "tensor_parallel" 1 (last .)) }}
{{- end }}
{{- $scored = mul $scored (int (dig "workers" 1 ($recipe.evaluation | default dict))) | int }}
{{- $teachers := 0 }}
{{- range tuple "describer" "reasoner" }}
{{- $engines := get (get (get $recipe "coldstart" | default dict) . | default dict) "workers" }}
{{- if kindIs "map" $engines }}
{{- $teachers = add $teachers (mul (int (dig "count" 1 $engines)) (int (dig "tensor_parallel" 1 $engines))) | int }}
{{- end }}
{{- end }}
{{- $gpus := max $workers $sft $scored $teachers }}
{{- $cpu := eq ($rollout.device | default (ternary "cpu" "auto" $preset.cpu)) "cpu" }}
{{- if $cpu }}

The run needs no GPU.
{{- else }}

The run needs {{ $gpus }} GPUs at a time:
{{- if $teachers }} {{ $teachers }} for the teachers of the cold start,{{ end }}
{{- if $sft }} {{ $sft }} on {{ $nodes }} nodes for SFT,{{ end }}
{{- if $workers }} {{ $workers }} on {{ div $workers (int (dig "grpo" "workersPerPod" 8 .Values.run)) }} nodes for GRPO,{{ end }} {{ $scored }} for the evaluation.
A Kueue quota for it: nominalQuota {{ $gpus }} of {{ dig "pods" "gpuResource" "nvidia.com/gpu" .Values.run }}, and CPUs and memory as the pods request them.
{{- end }}
{{- $found := false }}
{{- range $table.runs }}
{{- if and (not $found) (eq .preset $recipe.preset) (eq .base $base) (eq (int .workers) $workers) (eq (int .sft) $sft) }}
{{- $found = true }}
{{- if not .fits }}

WARNING: on GPUs of 80 GB this run does not fit; visionr1 plan says what makes it fit.
{{- else if not $cpu }}
Planned for H800 and the chart's stages: {{ .hostGib }} GiB of host memory per node, {{ printf "%.1f" .storageTib }} TiB of storage, {{ .hours }} hours.
{{- else }}
Planned for the chart's stages: {{ printf "%.0f" (mulf .storageTib 1024) }} GiB of storage.
{{- end }}
{{- end }}
{{- end }}
{{- if not $cpu }}
For other values, other GPUs and the price: visionr1 plan RECIPE --gpus {{ $gpus }}xCARD
{{- end }}
{{- end }}
{{- end }}
