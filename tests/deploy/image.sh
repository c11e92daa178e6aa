# The container image without a container engine: its Dockerfile's commands are run here, and what they make is started in a root
# directory of its own, as the user and with the arguments that the Dockerfile says; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work, tests, start_postgres.

image=$work/image
dockerfile() { python3 "$tests/dockerfile.py" docs/deploy/Dockerfile "$1"; }

# The commands of the build stage as they stand. Root runs them where there is nothing but what .dockerignore lets in, under the
# project's own path, so that cargo knows again what it has built.
build_image() {
    local context=$work/context included commands
    # The last stage's only COPY takes this.
    same "--from=build /src/target/image /" dockerfile COPY
    commands="export PROFILE=dev; $(dockerfile build)"
    rm -rf "$image" target/image "$context"
    if [ "$(id -u)" = 0 ]; then
        mapfile -t included < <(sed -n 's/^!//p' .dockerignore)
        mkdir -p "$context/target/static"
        git ls-files -z --cached --others --exclude-standard -- "${included[@]}" | tar --null -T - -c | tar -x -C "$context"
        unshare --mount bash -euc 'mount --bind "$PWD/target/static" "$1/target/static"; mount --rbind "$1" "$PWD"; cd "$PWD"; eval "$2"' \
            build "$context" "$commands"
        mv "$context/target/image" "$image"
        rm -rf "$context"
    else
        bash -euc "$commands"
        mv target/image "$image"
    fi
}

# get PATH [HEADER]: the status with which the admin API answers.
get() { curl -s -o /dev/null -w '%{http_code}' ${2:+-H "$2"} "http://127.0.0.1:$admin$1"; }

test_image() {
    check "Dockerfile: the build stage's commands make the image's files" build_image
    check "  among them one program, and no other" same './usr/bin/pgvpd' \
        bash -c "cd $image && find . -type f -perm /111"
    if [ "$(id -u)" != 0 ]; then
        skip "the image's content as a root directory" "only root can change it"
        return
    fi
    local line port admin user entrypoint proxy command
    user=$(dockerfile USER)
    check "  its user is a number, and not root's" bash -c "[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]]"
    entrypoint=$(dockerfile ENTRYPOINT)
    mapfile -t command < <(dockerfile CMD)
    admin=$(free_port)
    start env PGVPD_PORT=0 PGVPD_UPSTREAM_PORT="$server_port" PGVPD_ADMIN_PORT="$admin" PGVPD_ADMIN_HOST=0.0.0.0 PGVPD_ADMIN_TOKEN=a-token-of-the-test \
        chroot --userspec="$user" "$image" "$entrypoint" "${command[@]}"
    proxy=$started
    line=$(line_of "$output" 'pgvpd is listening.* address=0\.0\.0\.0:[0-9]+')
    port=${line#* address=0.0.0.0:}
    check "  it starts as that user, and lets a tenant in" same anvil items acme 127.0.0.1 "${port%% *}" plain
    check "  /health and /ready answer a probe, which has no token" same '200 200' bash -c "$(declare -f get); admin=$admin; echo \"\$(get /health) \$(get /ready)\""
    check "  everything else wants one" same 401 get /metrics
    check "  and answers who has it" same 200 get /metrics 'Authorization: Bearer a-token-of-the-test'
    end "$proxy" "$(dockerfile STOPSIGNAL)"
    check "  the signal that it is stopped with lets it end" line_of "$output" 'stopped'
    rm -rf "$image"
}
