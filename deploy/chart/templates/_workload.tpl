{{- /* A DaemonSet or Deployment of deploy/base with the values of its process: (dict "root" $ "file" "..." "values" ...) */ -}}
{{- define "announcer.workload" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $one := $root.Files.Get .file | replace "announcer-system" $root.Release.Namespace | fromYaml -}}
{{- $pod := $one.spec.template.spec -}}
{{- range $container := $pod.containers -}}
  {{- $is_exabgp := eq $container.name "exabgp" -}}
  {{- $image := ternary $root.Values.images.exabgp $root.Values.images.announcer $is_exabgp -}}
  {{- $_ := set $container "image" (printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion)) -}}
  {{- with $root.Values.images.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
  {{- with (ternary $root.Values.exabgp $values $is_exabgp).resources }}{{ $_ := set $container "resources" . }}{{ end -}}
  {{- if not $is_exabgp -}}
    {{- range $root.Values.loadBalancerClasses -}}
      {{- $_ := set $container "args" (append $container.args (printf "--load-balancer-class=%s" .)) -}}
    {{- end -}}
    {{- $_ := set $container "args" (concat $container.args $values.args) -}}
  {{- end -}}
{{- end -}}
{{- with $root.Values.images.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end -}}
{{- $_ := set $pod "nodeSelector" (merge (dict) $values.nodeSelector $pod.nodeSelector) -}}
{{- with $values.tolerations }}{{ $_ := set $pod "tolerations" . }}{{ end -}}
{{- with $values.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end -}}
{{- with $values.podAnnotations }}{{ $_ := set $one.spec.template.metadata "annotations" . }}{{ end -}}
{{- with $values.replicas }}{{ $_ := set $one.spec "replicas" . }}{{ end -}}
{{- with $values.maxUnavailable }}{{ $_ := set $one.spec.updateStrategy.rollingUpdate "maxUnavailable" . }}{{ end -}}
{{- toYaml $one -}}
{{- end -}}
