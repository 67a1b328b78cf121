#!/bin/sh
# Gives the engine the images that docker-compose.yaml names: pulled, or where no registry can be reached, made of Debian's
# packages. One that is there already stays.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
made=modelway-stand-ins:bookworm

has() { docker image inspect "$1" >/dev/null 2>&1; }

for image in $(sed -n 's/.*_IMAGE:-\([a-z]*:[0-9][^}]*\)}.*/\1/p' "$here/../../../docker-compose.yaml"); do
    has "$image" && continue
    timeout 60 docker pull --quiet "$image" 2>/dev/null && continue
    echo "$image cannot be pulled: one of Debian's packages stands in" >&2
    docker build --quiet --tag "$made" "$here/stand-ins" >&2
    case $image in
        postgres:*) settings='ENTRYPOINT ["/bin/sh", "/postgres.sh"]' ;;
        registry:*) settings='ENTRYPOINT ["docker-registry", "serve", "/registry.yml"]' ;;
        *) settings='ENTRYPOINT []' ;;
    esac
    printf 'FROM %s\n%s\n' "$made" "$settings" | docker build --quiet --tag "$image" - >&2
done
