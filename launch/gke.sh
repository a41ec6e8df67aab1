#!/usr/bin/env bash
# A TPU slice on Google Kubernetes Engine, as a JobSet (jobset.sigs.k8s.io, installed in the cluster).
#
#   launch/gke.sh [--dry-run] build           build the image and push it
#   launch/gke.sh [--dry-run] apply [--config.key=value ...]
#   launch/gke.sh manifest [--config.key=value ...]    prints what apply sends
#   launch/gke.sh [--dry-run] logs            of host 0, as they come
#   launch/gke.sh [--dry-run] status
#   launch/gke.sh [--dry-run] delete
#
# Every host runs the same command; GKE tells them of each other (TPU_WORKER_HOSTNAMES). Status 75, and a node that is
# taken away, start the whole set again without being counted; other failures count up to RESTARTS.
set -euo pipefail

NAME=${NAME:-genseg}
IMAGE=${IMAGE:-us-docker.pkg.dev/my-project/genseg/genseg:tpu}
TPU=${TPU:-tpu-v5-lite-podslice}     # value of the node label cloud.google.com/gke-tpu-accelerator
TOPOLOGY=${TOPOLOGY:-4x8}            # 32 chips
HOSTS=${HOSTS:-8}                    # chips / CHIPS
CHIPS=${CHIPS:-4}                    # a host
SPOT=${SPOT:-true}
BUCKET=${BUCKET:-my-bucket}          # the service account of the pods may read and write it
CONFIG=${CONFIG:-configs/pretrain.py:convnext_tiny,channels=4,objective=csp}
WORKERS=${WORKERS:-32}               # decoding processes of each host; a v5e host has 112 virtual CPUs
MEMORY=${MEMORY:-64Gi}               # of the memory disk that holds the data, a host
RESTARTS=${RESTARTS:-3}

DRY=''
if [ "${1:-}" = --dry-run ]; then
  DRY=yes
  shift
fi

do_or_show() {
  if [ -n "$DRY" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

manifest() {
  local arguments='' argument spot=''
  [ "$SPOT" != true ] || spot="                cloud.google.com/gke-spot: 'true'"$'\n'
  for argument in --config="$CONFIG" --workdir=/runs/"$NAME" --config.data.data_dir=/data \
    --config.data.workers="$WORKERS" \
    --config.checkpoint.dir="gs://$BUCKET/runs/$NAME" "$@"; do
    arguments+="                    - '${argument//\'/\'\'}'"$'\n'
  done
  cat << END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $NAME
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: $RESTARTS
    restartStrategy: BlockingRecreate  # a process of the last attempt must not meet those of the next
    rules:
      - name: toldToEnd
        action: RestartJobSetAndIgnoreMaxRestarts
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: slice
      replicas: 1
      template:
        spec:
          parallelism: $HOSTS
          completions: $HOSTS
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: genseg
                  operator: In
                  values: [75]
              - action: FailJob
                onPodConditions:
                  - type: DisruptionTarget
                    status: 'True'
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 120
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $TPU
                cloud.google.com/gke-tpu-topology: $TOPOLOGY
${spot}              tolerations:
                - key: google.com/tpu
                  operator: Exists
                - key: cloud.google.com/gke-spot
                  operator: Exists
              initContainers:
                - name: data
                  image: gcr.io/google.com/cloudsdktool/google-cloud-cli:slim
                  command: [gcloud, storage, rsync, --recursive, 'gs://$BUCKET/genseg-data', /data]
                  volumeMounts:
                    - {name: data, mountPath: /data}
              containers:
                - name: genseg
                  image: $IMAGE
                  args:
${arguments}                  ports:
                    - {containerPort: 8471}
                    - {containerPort: 8476}
                  resources:
                    limits:
                      google.com/tpu: $CHIPS
                  volumeMounts:
                    - {name: data, mountPath: /data}
                    - {name: runs, mountPath: /runs}
              volumes:
                - name: data
                  emptyDir: {medium: Memory, sizeLimit: $MEMORY}
                - name: runs
                  emptyDir: {}
END
}

build() {
  do_or_show docker build -f launch/Dockerfile --build-arg ACCELERATOR=tpu -t "$IMAGE" .
  do_or_show docker push "$IMAGE"
}

apply() {
  if [ -n "$DRY" ]; then
    manifest "$@"
    do_or_show kubectl apply -f -
  else
    manifest "$@" | kubectl apply -f -
  fi
}

logs() {
  do_or_show kubectl logs --follow --container=genseg \
    --selector="jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0"
}

status() { do_or_show kubectl get jobset "$NAME"; }

delete() { do_or_show kubectl delete jobset "$NAME"; }

cd "$(dirname "$0")/.."
action=${1:-}
case "$action" in
  build | apply | manifest | logs | status | delete) shift; "$action" "$@" ;;
  *) sed -n '4,9s/^# *//p' "$0" >&2; exit 2 ;;
esac
