# What ./run and ./test share: install missing packages, configure, build. Sourced by bash; everything it says goes to stderr.
# shellcheck shell=bash
: "${root:?set by the caller: the folder of ./run}"

say() { printf '%s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

# has_package NAME PROBE: is it there? (see cmake/packages.txt)
has_package() {
    case $2 in
        cmd:*) command -v "${2#cmd:}" >/dev/null 2>&1 ;;
        dpkg) [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
        *) die "cmake/packages.txt: $1: unknown probe '$2', expected cmd:NAME or dpkg" ;;
    esac
}

# missing_packages GROUP...: the packages of these groups that are not there, each once.
missing_packages() {
    local package group probe wanted=" $* " seen=" "
    while read -r package group probe; do
        case $package in '' | '#'*) continue ;; esac
        case $wanted in *" $group "*) ;; *) continue ;; esac
        case $seen in *" $package "*) continue ;; esac
        seen="$seen$package "
        has_package "$package" "$probe" || printf '%s ' "$package"
    done <"$root/cmake/packages.txt"
}

# Root already, or sudo with somebody to type a password or none needed.
has_rights() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

apt_get() {
    local sudo=sudo
    [ "$(id -u)" != 0 ] || sudo=''
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# ensure_packages GROUP...: installs what is missing. Rights are asked for only when something required is missing; a group's
# recommended part (GROUP+) comes along then.
ensure_packages() {
    local required recommended group plus=()
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "Not a Debian-like system: packages are not checked; cmake/packages.txt lists what is needed."
        return 0
    fi
    required=$(missing_packages "$@")
    [ -n "$required" ] || return 0
    for group in "$@"; do plus+=("$group+"); done
    recommended=$(missing_packages "${plus[@]}")
    if ! has_rights; then
        say "Some packages are missing and there are no rights to install them. Run this as root, then start again:"
        die "  apt-get install --no-install-recommends $required$recommended" 2
    fi
    say "Installing from the distribution: $required$recommended"
    apt_get update || say "apt-get update failed; going on with the package lists that are there."
    # shellcheck disable=SC2086  # lists of words
    apt_get install --no-install-recommends $required ||
        die "Could not install the packages; try: apt-get install --no-install-recommends $required" 2
    if [ -n "$recommended" ]; then
        # shellcheck disable=SC2086
        apt_get install --no-install-recommends $recommended ||
            say "Not installed, going on without: $recommended"
    fi
}

# configure PRESET [OPTIONS...]: makes build/PRESET when it isn't there yet, or when an option differs from what it has.
configure() {
    local preset=$1 option key tree="$root/build/$1" generator=()
    shift
    if [ -f "$tree/CMakeCache.txt" ] && { [ -f "$tree/build.ninja" ] || [ -f "$tree/Makefile" ]; }; then
        local same=yes
        for option in "$@"; do
            key=${option#-D}
            grep -q "^${key%%=*}:[A-Z]*=${key#*=}\$" "$tree/CMakeCache.txt" || same=no
        done
        [ $same = no ] || return 0
    elif command -v ninja >/dev/null 2>&1; then
        generator=(-G Ninja)
    else
        generator=(-G "Unix Makefiles")
    fi
    (cd "$root" && cmake --preset "$preset" "${generator[@]}" "$@") >&2 || die "Configuring $preset failed."
}

# build PRESET TARGET...: quiet when there is nothing to do.
build() {
    local preset=$1 jobs
    shift
    jobs=$(nproc 2>/dev/null || echo 2)
    cmake --build "$root/build/$preset" --parallel "$jobs" --target "$@" >&2 || die "Building failed."
}
