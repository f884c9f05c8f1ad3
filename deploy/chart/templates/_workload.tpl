{{- /* A DaemonSet or Deployment of deploy/base with the values of its process: (dict "root" $ "file" "..." "values" ...) */ -}}
{{- define "announcer.workload" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $one := $root.Files.Get .file | replace "announcer-system" $root.Release.Namespace | fromYaml -}}
{{- $pod := $one.spec.template.spec -}}
{{- if and $root.Values.bfdd.enabled (eq $one.kind "DaemonSet") -}}
  {{- $patch := $root.Files.Get "files/components/bfd/patch-agent.yaml" | fromYamlArray -}}
  {{- $agent := first $pod.containers -}}
  {{- $_ := set $agent "args" (append $agent.args (index $patch 0).value) -}}
  {{- $_ := set $agent "volumeMounts" (append $agent.volumeMounts (index $patch 1).value) -}}
  {{- $_ := set $pod "volumes" (append $pod.volumes (index $patch 2).value) -}}
  {{- $_ := set $pod "containers" (append $pod.containers (index $patch 3).value) -}}
{{- end -}}
{{- with $root.Values.metricsTLS }}{{- if .secret -}}
  {{- $first := first $pod.containers -}}
  {{- $args := list "--metrics-cert=/run/metrics-tls/tls.crt" "--metrics-key=/run/metrics-tls/tls.key" -}}
  {{- if .clientCA }}{{ $args = append $args "--metrics-client-ca=/run/metrics-tls/ca.crt" }}{{ end -}}
  {{- $_ := set $first "args" (concat $first.args $args) -}}
  {{- range list "startupProbe" "livenessProbe" "readinessProbe" }}{{ $_ := set (get $first .).httpGet "scheme" "HTTPS" }}{{ end -}}
  {{- range $pod.containers }}{{ with .lifecycle }}{{ $_ := set .preStop.httpGet "scheme" "HTTPS" }}{{ end }}{{ end -}}
  {{- $mount := dict "name" "metrics-tls" "mountPath" "/run/metrics-tls" "readOnly" true -}}
  {{- $_ := set $first "volumeMounts" (append ($first.volumeMounts | default list) $mount) -}}
  {{- $volume := dict "name" "metrics-tls" "secret" (dict "secretName" .secret) -}}
  {{- $_ := set $pod "volumes" (append ($pod.volumes | default list) $volume) -}}
{{- end }}{{ end -}}
{{- range $container := $pod.containers -}}
  {{- $is_sidecar := has $container.name (list "exabgp" "bfdd") -}}
  {{- $image := get $root.Values.images (ternary $container.name "announcer" $is_sidecar) -}}
  {{- $_ := set $container "image" (printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion)) -}}
  {{- with $root.Values.images.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
  {{- with (get $root.Values $container.name).resources }}{{ $_ := set $container "resources" . }}{{ end -}}
  {{- if not $is_sidecar -}}
    {{- range $root.Values.loadBalancerClasses -}}
      {{- $_ := set $container "args" (append $container.args (printf "--load-balancer-class=%s" .)) -}}
    {{- end -}}
    {{- $_ := set $container "args" (concat $container.args $values.args) -}}
  {{- end -}}
{{- end -}}
{{- with $values.drainSeconds -}}
  {{- $agent := first $pod.containers -}}
  {{- $_ := set $agent "args" (append $agent.args (printf "--drain-seconds=%v" .)) -}}
  {{- $_ := set $pod "terminationGracePeriodSeconds" (add $pod.terminationGracePeriodSeconds .) -}}
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
