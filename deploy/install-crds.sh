#!/bin/sh
# Installs the definitions of deploy/crds into the current cluster. Those that PureLB, MetalLB or anybody else has put there
# stay as they are: their operators, charts and conversion webhooks go on owning them.
#
# KUBECTL, if set, is the command to use, such as "kubectl --context=lab".
set -eu
kubectl=${KUBECTL:-kubectl}
crds=$(dirname "$0")/crds
mark=app.kubernetes.io/part-of

for file in "$crds"/*.yaml; do
    name=$(basename "$file" .yaml)
    # The label is asked for by a selector, as the answer for "not there" and "not ours" must not be taken for one another.
    if [ -z "$($kubectl get crd "$name" --ignore-not-found -o name)" ]; then
        $kubectl create -f "$file"
    elif [ -n "$($kubectl get crd -l "$mark=announcer" --field-selector "metadata.name=$name" -o name)" ]; then
        $kubectl apply --server-side --field-manager=announcer-install --force-conflicts -f "$file"
    else
        echo "customresourcedefinition/$name belongs to somebody else and is kept (deploy/crds/README.md)"
    fi
done
