#!/usr/bin/env bash
# Installs and starts what live tests need beyond Python, on Debian as root; safe to repeat. One word for each need:
#
#   tests/engines.sh            everything
#   tests/engines.sh dockerd    a Docker engine that runs
#   tests/engines.sh compose    Docker Compose
#   tests/engines.sh registry   Debian's OCI registry, which each test starts for itself
#   tests/engines.sh kubectl    kubectl, and what the Kubernetes for tests is started with
#   tests/engines.sh chromium   the browser in which the control room is tried
set -eu

packages() { # those of these Debian packages that are missing
    missing=()
    for package in "$@"; do dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package"); done
    [ ${#missing[@]} -eq 0 ] && return
    DEBIAN_FRONTEND=noninteractive flock /tmp/apt.lock sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" > /dev/null' sh "${missing[@]}"
}

dockerd() { # Debian's, since its client alone brings BuildKit; containers run, images are built on mmdebstrap's root
    packages docker.io mmdebstrap iptables
    /usr/bin/docker info > /dev/null 2>&1 && return
    if ! pgrep -x dockerd > /dev/null; then
        setsid /usr/sbin/dockerd > /tmp/dockerd.log 2>&1 < /dev/null &
    fi
    for _ in $(seq 120); do
        /usr/bin/docker info > /dev/null 2>&1 && return
        sleep 0.5
    done
    echo "dockerd does not answer; its last lines:" >&2
    tail -5 /tmp/dockerd.log >&2
    return 1
}

compose() { packages docker-compose; }

registry() { # htpasswd is of apache2-utils
    packages docker-registry apache2-utils
}

kubectl() { # the cluster itself lies beside the checkout, in ../shared/k8s
    packages curl gcc libc6-dev openssl xz-utils
    [ -n "$(type -P kubectl)" ] || packages kubernetes-client
}

chromium() { packages chromium; }

[ $# -gt 0 ] || set -- dockerd compose registry kubectl chromium
for need in "$@"; do
    case $need in
        dockerd) dockerd ;;
        compose) compose ;;
        registry) registry ;;
        kubectl) kubectl ;;
        chromium) chromium ;;
        *) echo "tests/engines.sh knows: dockerd, compose, registry, kubectl, chromium" >&2 && exit 2 ;;
    esac
done
