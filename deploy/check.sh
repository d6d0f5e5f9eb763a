#!/usr/bin/env bash
# Lints everything under deploy/: check.sh FOLDER_OF_THE_TOOLS. `make deploy-check` calls it.
set -euo pipefail
tools=$1
cd "$(dirname "$0")"
"$tools/bin/hadolint" --config ../.hadolint.yaml Dockerfile
"$tools/bin/yamllint" --strict --config-file .yamllint.yaml .
"$tools/bin/python" - compose/compose.yaml <<'PYTHON'
import re
import sys
from pathlib import Path

import yaml
from compose_spec import PyCompose

text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", Path(sys.argv[1]).read_text())  # variables as if none were set
text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", text)
compose = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))  # without merge keys, which it does not know
compose.validate_networks()
compose.validate_volumes()
compose.validate_secrets()
PYTHON
if [ -x "$tools/node_modules/.bin/dclint" ]; then
    "$tools/node_modules/.bin/dclint" --max-warnings 0 --config compose/.dclintrc.yaml compose
else
    echo "npm is not here: compose.yaml is not linted by dclint"
fi
# Patches of overlays are parts of objects, and a kustomization is none of Kubernetes' own.
find kubernetes -name '*.yaml' ! -name kustomization.yaml ! -path '*/overlays/*/deployment.yaml' -print0 |
    xargs -0 "$tools/bin/kubernetes-validate" --quiet --strict -k 1.32
# What `kubectl apply -k` would send; this needs no cluster.
if command -v kubectl >/dev/null; then
    rendered=$(mktemp -d)
    trap 'rm -rf "$rendered"' EXIT
    for folder in kubernetes/base kubernetes/overlays/*; do
        kubectl kustomize "$folder" >"$rendered/$(basename "$folder").yaml"
    done
    "$tools/bin/kubernetes-validate" --quiet --strict -k 1.32 "$rendered"/*.yaml
else
    echo "kubectl is not here: the overlays are not rendered"
fi
