#!/usr/bin/env bash
# Builds the image for CPUs with buildah, from a base that debootstrap makes, and has it serve. `make image-check` calls
# it, as root. The image has GGUF alone: llama-cpp-python is compiled, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || { echo "$tool is not here (Debian: apt-get install buildah debootstrap)"; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "debootstrap makes a root file system: run this as root"; exit 2; }
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
work=$(mktemp -d)
containers=()
finish() {
    for container in "${containers[@]}"; do buildah rm "$container" >/dev/null || true; done
    buildah rmi --force localhost/lqmf-check localhost/lqmf-base >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

debootstrap --variant=minbase bookworm "$work/root" >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; exit 1; }
base=$(buildah from scratch)
containers+=("$base")
buildah add --quiet "$base" "$work/root" / >/dev/null
buildah commit --quiet "$base" localhost/lqmf-base >/dev/null

# Buildah 1.28 looks for a stage whose name has an argument in it among the images.
sed 's/^FROM ${VARIANT}/FROM cpu/' deploy/Dockerfile >"$work/Dockerfile"
options=(--build-arg BASE=localhost/lqmf-base --build-arg EXTRAS=gguf --build-arg TORCH=)
if [ -n "${PIP_CERT:-}" ]; then # this network has certificates of its own
    printf '[global]\ncert = /pip-certificates.pem\n' >"$work/pip.conf"
    options+=(--volume "$PIP_CERT:/pip-certificates.pem:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
fi
buildah build --file "$work/Dockerfile" "${options[@]}" --tag localhost/lqmf-check .

image=$(buildah from localhost/lqmf-check)
containers+=("$image")
buildah run "$image" -- lqmf --version
buildah run --env LQMF_API_KEYS=sesame --env LQMF_PORT=8699 "$image" -- bash -ec '
    [ "$(id -u)" = 10001 ]
    lqmf mode=serve model=null server.host=0.0.0.0 server.port=8699 tracking=none &
    server=$!
    for _ in $(seq 60); do python /opt/lqmf/healthcheck.py 2>/dev/null && break; sleep 1; done
    python /opt/lqmf/healthcheck.py
    kill "$server"
    wait "$server"
'
echo "the image is built and serves"
