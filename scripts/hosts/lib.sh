# shellcheck shell=bash disable=SC2154  # the host script sets what is not set here
# What scripts/hosts/svm and scripts/hosts/vmx share: options, the cache of packages, the program and its files,
# the serial streams, the result. A host script sets `host` and defines need_emulator, boot_limit and emulator.

readonly EX_USAGE=64 EX_DATA=65 EX_UNAVAILABLE=69 EX_SOFTWARE=70 EX_TEMPFAIL=75

# What only costs an emulated CPU time is left out: mitigations, the self-tests of the crypto code, certificates.
# shellcheck disable=SC2034  # for the host scripts
readonly kernel_options='panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr cryptomgr.notests initcall_blacklist=load_system_certificate_list'

lab_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nmi-lab/hosts

say() { printf 'scripts/hosts/%s: %s\n' "$host" "$*" >&2; }
fail() { # exit-code message…
    local code=$1
    shift
    say "$*"
    exit "$code"
}

usage() {
    cat <<EOF
Usage: scripts/hosts/$host [OPTION]... [--] VMM-ARGUMENT...

Runs a vmm command line on $about
Output streams, exit code and the files that the program writes below the working directory, or at a
path named on its command line, come back as if it had run here.

Options:
  --kernel VERSION   kernel of the emulated host: 6.1, 6.12 (default: 6.1, or 6.12 where that is all
                     there is), or a directory that holds boot/vmlinuz-* and lib/modules/*
  --memory MIB       memory of the emulated host (default: 512)
  --timeout TIME     give up after TIME seconds (or 90s, 10m, 2h; 0: never; default: $default_timeout)
  --file PATH        also copy this file or directory in; may be repeated
  --env NAME=VALUE   set a variable for the program; may be repeated (RUST_*, VMM_*, NMI_LAB_*, NO_COLOR
                     and CLICOLOR* are passed on anyway)
  --verbose          show what is done and the console of the emulated host, on stderr
  --keep             keep the run's directory (console, disk) and say where it is
  --fetch-only       fetch and unpack the emulator and the kernel, and stop
  -h, --help         this text

Environment:
  NMI_LAB_VMM        a static binary to run, instead of building vmm
  $emulator_variable$(printf %$((18 - ${#emulator_variable}))s '') the emulator to use, instead of the distribution's package
  XDG_CACHE_HOME     downloads go to \$XDG_CACHE_HOME/nmi-lab/hosts (default: ~/.cache)

Exit code: the program's, or 64 wrong usage, 65 input files too large, 69 the host cannot be provided,
70 the emulated host died, 75 timeout, 130 interrupted; the last five with a message from scripts/hosts/$host.
EOF
}

# ---- options ----------------------------------------------------------------------------------------------------

kernel=''
memory=512
timeout=''
verbose=0
keep=0
fetch_only=0
extra_files=()
extra_env=()
vmm_args=()

seconds() { # 90 | 90s | 10m | 2h
    [[ $1 =~ ^([0-9]{1,7})([smh]?)$ ]] || return 1
    case ${BASH_REMATCH[2]} in
        m) echo $((10#${BASH_REMATCH[1]} * 60)) ;;
        h) echo $((10#${BASH_REMATCH[1]} * 3600)) ;;
        *) echo $((10#${BASH_REMATCH[1]})) ;;
    esac
}

parse_options() {
    local option value
    while (($#)); do
        option=$1
        case $option in
            --kernel=* | --memory=* | --timeout=* | --file=* | --env=*)
                value=${option#*=}
                option=${option%%=*}
                shift
                ;;
            --kernel | --memory | --timeout | --file | --env)
                (($# > 1)) || fail $EX_USAGE "$option needs a value"
                value=$2
                shift 2
                ;;
            *) shift ;;
        esac
        case $option in
            --kernel) kernel=$value ;;
            --memory)
                [[ $value =~ ^[1-9][0-9]{2,4}$ ]] || fail $EX_USAGE "--memory $value: a number of MiB, 100 or more"
                memory=$value
                ;;
            --timeout)
                timeout=$(seconds "$value") || fail $EX_USAGE "--timeout $value: seconds, or 90s, 10m, 2h"
                ;;
            --file)
                [[ -e $value ]] || fail $EX_USAGE "--file $value: no such file"
                extra_files+=("$value")
                ;;
            --env)
                [[ $value =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || fail $EX_USAGE "--env $value: NAME=VALUE is expected"
                extra_env+=("$value")
                ;;
            --verbose) verbose=1 ;;
            --keep) keep=1 ;;
            --fetch-only) fetch_only=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            --)
                vmm_args=("$@")
                break
                ;;
            -*) fail $EX_USAGE "unknown option $option (--help lists them; vmm's own options come after its subcommand or after --)" ;;
            *)
                vmm_args=("$option" "$@")
                break
                ;;
        esac
    done
    [[ -n $timeout ]] || timeout=$(seconds "$default_timeout")
    ((fetch_only || ${#vmm_args[@]})) || {
        usage >&2
        exit $EX_USAGE
    }
}

# ---- packages ---------------------------------------------------------------------------------------------------

# The system's package lists may be absent (containers) or stale, and only root may renew them: then lists of our
# own, below the cache, from the same sources.
apt=()
own_lists() {
    local state=$cache/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    apt=(-o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache")
    ((EUID)) || apt+=(-o APT::Sandbox::User=root)
    say 'fetching package lists'
    apt-get "${apt[@]}" -q update >"$state/log" 2>&1 || {
        cat "$state/log" >&2
        fail $EX_UNAVAILABLE 'apt-get update failed; is there a network?'
    }
}

# The newest real package of a kernel series, e.g. linux-image-6.1.0-48-cloud-amd64 for 6.1.
kernel_package() { # series
    apt-cache "${apt[@]}" pkgnames "linux-image-$1." 2>/dev/null |
        grep -E '^linux-image-[0-9][0-9a-z.+~-]*-cloud-amd64$' | sort -V | tail -n 1
}

# Downloads packages, with those that they depend on and this system lacks, and unpacks them (no root needed,
# nothing is installed) into the cache directory of the given name.
unpack() { # name with-dependencies(0|1) package…
    local name=$1 dependencies=$2 target packages deb
    shift 2
    target=$cache/$name
    [[ ! -e $target ]] || return 0
    say "fetching $*"
    rm -rf "$target.part"
    mkdir -p "$target.part/debs"
    if ((dependencies)); then
        mapfile -t packages < <(apt-get "${apt[@]}" -s --no-install-recommends install "$@" 2>/dev/null | awk '/^Inst /{print $2}')
        # An installed package is still one that we want here, beside its data.
        for deb in "$@"; do [[ " ${packages[*]} " == *" $deb "* ]] || packages+=("$deb"); done
    else
        packages=("$@")
    fi
    (cd "$target.part/debs" && apt-get "${apt[@]}" -q download "${packages[@]}") >"$target.part/log" 2>&1 || {
        cat "$target.part/log" >&2
        return 1
    }
    for deb in "$target.part"/debs/*.deb; do
        dpkg -x "$deb" "$target.part" || return 1
    done
    rm -rf "$target.part/debs"
    mv "$target.part" "$target"
}

# unpack, and if that fails once more with lists of our own.
need_package() { # name with-dependencies(0|1) package…
    [[ ! -e $cache/$1 ]] || return 0
    if ((${#apt[@]} == 0)); then
        unpack "$@" 2>/dev/null && return 0
        own_lists
    fi
    unpack "$@" || fail $EX_UNAVAILABLE "this system's package archive does not provide: ${*:3}"
}

need_kernel() {
    local series=$kernel package=''
    if [[ $kernel == */* ]]; then
        kernel_dir=$(cd "$kernel" 2>/dev/null && pwd -P) || fail $EX_USAGE "--kernel $kernel: no such directory"
    else
        [[ $kernel =~ ^([0-9]+\.[0-9]+)?$ ]] || fail $EX_USAGE "--kernel $kernel: a version like 6.1, or a directory"
        for series in ${kernel:-6.1 6.12}; do
            [[ ! -e $cache/linux-$series ]] || break
            package=$(kernel_package "$series")
            [[ -z $package ]] || break
        done
        if [[ ! -e $cache/linux-$series && -z $package ]]; then
            ((${#apt[@]})) || own_lists
            for series in ${kernel:-6.1 6.12}; do
                package=$(kernel_package "$series")
                [[ -z $package ]] || break
            done
            [[ -n $package ]] ||
                fail $EX_UNAVAILABLE "this system's package archive has no linux-image-${kernel:-6.1}.*-cloud-amd64 (Debian 12 has 6.1 and 6.12, Debian 13 has 6.12; or give --kernel a directory)"
        fi
        [[ -e $cache/linux-$series ]] || need_package "linux-$series" 0 "$package"
        kernel_dir=$cache/linux-$series
    fi
    local image
    for image in "$kernel_dir"/boot/vmlinuz-*; do
        [[ -r $image ]] || fail $EX_UNAVAILABLE "$kernel_dir/boot holds no vmlinuz-*"
        vmlinuz=$image
    done
    kernel_release=${vmlinuz##*/vmlinuz-}
    [[ -d $kernel_dir/lib/modules/$kernel_release ]] || fail $EX_UNAVAILABLE "$kernel_dir/lib/modules/$kernel_release is missing"
}

need_cache() {
    local tool
    [[ $(uname -m) == x86_64 ]] || fail $EX_UNAVAILABLE "the emulated hosts run on x86_64 only"
    for tool in apt-get apt-cache dpkg flock realpath; do
        command -v "$tool" >/dev/null ||
            fail $EX_UNAVAILABLE "$tool is missing: the kernel and the emulator come from a Debian package archive"
    done
    mkdir -p "$cache" || fail $EX_UNAVAILABLE "cannot create $cache"
    # One fetches, the others wait for it.
    exec {lock}>"$cache/lock"
    flock "$lock"
    need_package busybox 0 busybox-static
    busybox=$cache/busybox/bin/busybox
    [[ -x $busybox ]] || busybox=$cache/busybox/usr/bin/busybox
    need_kernel
    need_emulator
    need_initramfs
    exec {lock}>&-
}

# Programs that were unpacked, not installed, find their libraries here.
library_path() { # root
    echo "$1/usr/lib/x86_64-linux-gnu:$1/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

# ---- initramfs --------------------------------------------------------------------------------------------------

# Modules in the order of loading: what each depends on first. A driver that is built in has no file.
modules_in_order() { # name…
    local name file dependencies
    for name; do
        [[ " $seen_modules " != *" ${name//-/_} "* ]] || continue
        seen_modules+=" ${name//-/_}"
        file=$(find "$kernel_dir/lib/modules/$kernel_release" -name "${name//[-_]/[-_]}.ko*" -print -quit)
        [[ -n $file ]] || continue
        unpack_module "$file" >"$modules_to/$name.ko"
        strip_signature "$modules_to/$name.ko"
        dependencies=$(tr '\0' '\n' <"$modules_to/$name.ko" | sed -n 's/^depends=//p' | tr , ' ')
        # shellcheck disable=SC2086  # a list of names
        modules_in_order $dependencies
        echo "$name.ko" >>"$modules_to/order"
    done
}
# Checking a signature takes an emulated CPU a second or two per module, and nothing here asks for one. At a signed
# module's end: the signature, a descriptor whose last four bytes are the signature's length, a magic line.
strip_signature() { # file
    [[ $(tail -c 28 "$1" | tr -d '\0') == '~Module signature appended~' ]] || return 0
    local length
    length=$((0x$(tail -c 32 "$1" | head -c 4 | od -An -tx1 | tr -d ' ')))
    truncate -s "-$((length + 12 + 28))" "$1"
}
unpack_module() {
    case $1 in
        *.xz) "$busybox" xz -dc <"$1" ;;
        *.gz) "$busybox" gzip -dc <"$1" ;;
        *.zst) zstd -dc <"$1" ;;
        *) cat "$1" ;;
    esac
}

need_initramfs() {
    local key tree applet
    # One per kernel: an older one, and what was made of it, goes when the recipe changes.
    key=$(cat "${BASH_SOURCE[0]}" "$lab_dir/scripts/hosts/init" <(echo "$host $kernel_dir $modules") | cksum)
    initramfs=$cache/initramfs-$host-$kernel_release-${key%% *}.cpio
    [[ ! -e $initramfs ]] || return 0
    tree=$(mktemp -d "$cache/initramfs.XXXXXX")
    modules_to=$tree/lab/modules
    seen_modules=''
    mkdir -p "$tree"/{bin,dev,proc,sys,tmp,run,etc,root} "$modules_to"
    # shellcheck disable=SC2086  # a list of names
    modules_in_order $modules
    cp "$busybox" "$tree/bin/busybox"
    for applet in $("$busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$tree/bin/$applet"
    done
    install -m 755 "$lab_dir/scripts/hosts/init" "$tree/init"
    rm -f "$cache/initramfs-$host-$kernel_release-"*
    (cd "$tree" && find . | sort | "$busybox" cpio -o -H newc 2>/dev/null) >"$initramfs.part" ||
        fail $EX_SOFTWARE "cannot write $initramfs"
    mv "$initramfs.part" "$initramfs"
    rm -rf "$tree"
}

# ---- the program and its files ----------------------------------------------------------------------------------

need_vmm() {
    program=${NMI_LAB_VMM:-$lab_dir/target/hosts/x86_64-unknown-linux-gnu/release/vmm}
    if [[ -n ${NMI_LAB_VMM:-} ]]; then
        [[ -f $program && -x $program ]] || fail $EX_USAGE "NMI_LAB_VMM=$program is not a program"
    else
        command -v cargo >/dev/null || fail $EX_UNAVAILABLE "cargo is missing, to build a static vmm (or set NMI_LAB_VMM)"
        [[ -e $program ]] || say 'building a static vmm in target/hosts (once)'
        (cd "$lab_dir" && RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build "${cargo_quiet[@]}" --release -p vmm \
            --target x86_64-unknown-linux-gnu --target-dir target/hosts >&2) || fail $EX_UNAVAILABLE 'the static vmm does not build'
    fi
    # A dynamic program would end with "not found" inside.
    [[ $(ldd "$program" 2>/dev/null) != *'=>'* ]] || fail $EX_USAGE "$program is not static (build it with -C target-feature=+crt-static)"
}

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
lines_function() { # name line…
    local name=$1
    shift
    if (($#)); then
        printf '%s() { printf '\''%%s\\n'\''' "$name"
        while (($#)); do
            printf ' %s' "$(quoted "$1")"
            shift
        done
        printf '; }\n'
    else
        printf '%s() { :; }\n' "$name"
    fi
}

# Looks at each argument as a path: what exists goes in at the same absolute path, and a place outside the working
# directory that does not exist yet is one where results may appear.
collect_files() {
    local argument path
    files=()
    directories=("$cwd")
    roots=("$cwd")
    [[ ! -d $lab_dir/scripts/campaigns ]] || files+=("$lab_dir/scripts/campaigns")
    for argument in "${vmm_args[@]}" "${extra_files[@]}"; do
        [[ $argument != -*=* ]] || argument=${argument#*=}
        [[ -n $argument && $argument != -* ]] || continue
        path=$(realpath -ms -- "$argument" 2>/dev/null) || continue
        case $path/ in
            /dev/* | /proc/* | /sys/* | /lab/*) continue ;;
        esac
        if [[ $cwd/ == "${path%/}/"* ]]; then
            continue # the working directory itself, or one above it
        elif [[ -e $path ]]; then
            [[ -r $path ]] || fail $EX_USAGE "cannot read $path"
            files+=("$path")
        elif [[ -d ${path%/*} ]]; then
            directories+=("${path%/*}")
        else
            continue
        fi
        [[ $path == "$cwd"/* ]] || roots+=("$path")
    done
}

# The disk of the emulated host: a tar archive on its way in, a cpio archive on its way out.
write_disk() {
    local argument variable bytes limit=$((memory * 1024 * 1024 / 4)) stdout_tty=0 stderr_tty=0
    [[ ! -t 1 ]] || stdout_tty=1
    [[ ! -t 2 ]] || stderr_tty=1
    collect_files
    if ((${#files[@]})); then
        bytes=$(du -sbLc -- "${files[@]}" | tail -n 1 | cut -f 1)
        ((bytes <= limit)) ||
            fail $EX_DATA "the files named on the command line are $((bytes >> 20)) MiB, and $((limit >> 20)) MiB fit into the emulated host; see --memory"
    fi
    mkdir -p "$run/tree/lab/bin"
    cp "$program" "$run/tree/lab/bin/"
    {
        printf 'cwd=%s\nverbose=%s\n' "$(quoted "$cwd")" "$verbose"
        printf 'stdout_tty=%s\nstderr_tty=%s\n' "$stdout_tty" "$stderr_tty"
        printf 'tty_size=%s\n' "$(quoted "$(stty size <&2 2>/dev/null || true)")"
        lines_function directories "${directories[@]}"
        lines_function roots "${roots[@]}"
        printf 'export HOME=/root TMPDIR=/tmp TERM=%s\n' "$(quoted "${TERM:-dumb}")"
        while IFS= read -r variable; do
            printf 'export %s=%s\n' "$variable" "$(quoted "${!variable}")"
        done < <(compgen -e | grep -E '^(RUST_|VMM_|NMI_LAB_|CLICOLOR|NO_COLOR$)')
        for variable in "${extra_env[@]}"; do
            printf 'export %s=%s\n' "${variable%%=*}" "$(quoted "${variable#*=}")"
        done
        # The machine is made for this one run and thrown away: a sandbox inside it would guard nothing.
        printf 'program() { exec %s --no-sandbox' "$(quoted "/lab/bin/${program##*/}")"
        for argument in "${vmm_args[@]}"; do printf ' %s' "$(quoted "$argument")"; done
        printf '; }\n'
    } >"$run/tree/lab/run"
    local date=(--mtime=@1000000000 --owner=0 --group=0)
    tar -C "$run/tree" "${date[@]}" -cf "$run/input" lab || fail $EX_SOFTWARE 'cannot write the disk image'
    if ((${#files[@]})); then
        tar -C / "${date[@]}" --dereference -rf "$run/input" -- "${files[@]#/}" || fail $EX_DATA 'cannot pack the input files'
    fi
    bytes=$(stat -c %s "$run/input")
    echo $(((bytes + 65535) / 65536)) >"$run/disk"
    truncate -s 64K "$run/disk"
    cat "$run/input" >>"$run/disk"
    truncate -s 1G "$run/disk"
    rm -rf "$run/tree" "$run/input"
}

# ---- a run ------------------------------------------------------------------------------------------------------

pids=()
cleanup() {
    local code=$? pid
    trap '' INT TERM HUP
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    wait 2>/dev/null
    if [[ -n ${run:-} ]]; then
        if ((keep)); then say "kept: $run"; else rm -rf "$run"; fi
    fi
    exit "$code"
}

# Console up to the marker goes to a file, what follows is the program's stderr, byte by byte.
split_console() {
    local line
    while IFS= read -r line; do
        line=${line%$'\r'}
        [[ $line != *@lab-program-starts@* ]] || break
        printf '%s\n' "$line" >>"$run/boot"
        ((!verbose)) || printf '%s\n' "$line" >&2
    done
    : >"$run/started"
    exec cat >&2
}

show_console() {
    tail -n 25 "$run/boot" >&2
    tail -n 5 "$run/emulator" >&2
}

run_emulator() {
    local elapsed machine console stdout
    mkfifo "$run/console" "$run/stdout"
    : >"$run/boot"
    split_console <"$run/console" &
    console=$!
    cat "$run/stdout" &
    stdout=$!
    # A writer of our own, so that an emulator that fails early does not leave the readers waiting for ever.
    exec {hold_console}<>"$run/console" {hold_stdout}<>"$run/stdout"
    emulator >"$run/emulator" 2>&1 </dev/null {hold_console}>&- {hold_stdout}>&- &
    machine=$!
    pids=("$machine" "$console" "$stdout")

    SECONDS=0
    while kill -0 "$machine" 2>/dev/null; do
        elapsed=$SECONDS
        if ((timeout && elapsed >= timeout)); then
            [[ -e $run/started ]] || show_console
            fail $EX_TEMPFAIL "no result after $timeout s (--timeout)"
        fi
        if [[ ! -e $run/started ]] && ((elapsed >= boot_limit)); then
            show_console
            fail $EX_SOFTWARE "the emulated host did not start the program within $boot_limit s"
        fi
        # Whoever read our output has gone: end as the program itself would, by SIGPIPE.
        kill -0 "$console" 2>/dev/null && kill -0 "$stdout" 2>/dev/null || exit 141
        sleep 0.05 &
        wait -n "$machine" $!
    done
    exec {hold_console}>&- {hold_stdout}>&-
    wait "$console" "$stdout" 2>/dev/null
    pids=()
}

take_results() {
    local status
    mkdir "$run/out"
    (cd "$run/out" && "$busybox" cpio -i -d -u) <"$run/disk" 2>/dev/null
    status=$(cat "$run/out/lab/status" 2>/dev/null)
    if [[ ! $status =~ ^[0-9]+$ ]]; then
        [[ -e $run/started ]] || show_console
        fail $EX_SOFTWARE 'the emulated host died before the program ended'
    fi
    rm -rf "$run/out/lab"
    cp -rPT "$run/out" / || fail $EX_SOFTWARE 'cannot take all result files back'
    ((!verbose)) || say "exit code $status after $SECONDS s"
    exit "$status"
}

main() {
    parse_options "$@"
    cargo_quiet=(-q)
    ((!verbose)) || cargo_quiet=()
    need_cache
    ((!fetch_only)) || exit 0
    need_vmm
    cwd=$(pwd -P)
    run=$(mktemp -d "${TMPDIR:-/tmp}/nmi-lab-$host.XXXXXX")
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    write_disk
    run_emulator
    take_results
}
