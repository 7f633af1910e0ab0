{{- define "shop.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{/* The work of a hook: a job where there is a node, else an object that is only made. */}}
{{- define "shop.hook" -}}
{{- if .root.Values.pods }}
apiVersion: batch/v1
kind: Job
{{- else }}
apiVersion: v1
kind: ConfigMap
{{- end }}
metadata:
  name: {{ .root.Release.Name }}-{{ .name }}
  annotations:
    helm.sh/hook: {{ .on }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: {{ .delete }}
{{- if .root.Values.pods }}
spec:
  backoffLimit: 0
  template:
    metadata: {name: hook}
    spec:
      restartPolicy: Never
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, {{ .command | quote }}]
{{- else }}
data: {revision: {{ .root.Release.Revision | quote }}}
{{- end }}
{{- end }}
