#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests: node.sh install | start | stop
#
# Without systemd and on loopback only; needs root. Its state lies in SLURM_TEST_STATE, its
# configuration in /etc/slurm (the Slurm plugin of Snakemake lets no job look elsewhere), where
# a configuration that this script has not written is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
state=${SLURM_TEST_STATE:-/tmp/realdeal-slurm}
mark="$state/configured"

fail() { echo "node.sh: $*" >&2; exit 1; }

running() { # pid file, program
    [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]
}

end() { # pid file, program
    running "$1" "$2" || return 0
    local pid; pid=$(cat "$1")
    kill "$pid"
    for _ in $(seq 100); do [ -e "/proc/$pid" ] || return 0; sleep 0.1; done
    kill -9 "$pid"
}

install() {
    hash munged slurmctld slurmd sbatch 2> /dev/null && return
    command -v apt-get > /dev/null || fail "no apt-get here; install slurmctld, slurmd and munge"
    export DEBIAN_FRONTEND=noninteractive
    local packages=(slurmctld slurmd slurm-client munge)
    apt-get install -y --no-install-recommends "${packages[@]}" ||
        { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; }
}

configure() {
    if [ -e /etc/slurm/slurm.conf ] && [ ! -e "$mark" ]; then
        fail "/etc/slurm holds a configuration of this machine; it is left alone"
    fi
    mkdir -p /etc/slurm "$state"/{controller,worker,munge,devices}
    chmod 755 "$state" "$state/munge"
    touch "$mark"
    # A GPU of Slurm's must be a device node; any will do, for nothing computes on it.
    for number in 0 1; do ln -sfn /dev/null "$state/devices/gpu$number"; done
    local task=task/none
    [ -d /sys/fs/cgroup/memory ] && task=task/cgroup
    sed -e "s|@HOST@|$(hostname -s)|; s|@STATE@|$state|; s|@TASK@|$task|" \
        "$here/slurm.conf" > /etc/slurm/slurm.conf
    echo "Name=gpu File=$state/devices/gpu[0-1]" > /etc/slurm/gres.conf
    printf '%s\n' CgroupPlugin=cgroup/v1 ConstrainRAMSpace=yes > /etc/slurm/cgroup.conf
    getent hosts "$(hostname -s)" > /dev/null || echo "127.0.0.1 $(hostname -s)" >> /etc/hosts
}

start() {
    for program in munged slurmctld slurmd sbatch; do
        command -v $program > /dev/null || fail "no $program here; run $0 install"
    done
    configure
    if ! running "$state/munge/munged.pid" munged; then
        mkdir -p -m 755 /run/munge
        [ -s "$state/munge/key" ] || (umask 077 && head -c 128 /dev/urandom > "$state/munge/key")
        munged --force --key-file="$state/munge/key" --pid-file="$state/munge/munged.pid" \
            --log-file="$state/munge/log" --seed-file="$state/munge/seed" \
            --socket=/run/munge/munge.socket.2 2> /dev/null
    fi
    running "$state/slurmctld.pid" slurmctld || slurmctld
    running "$state/slurmd.pid" slurmd || nice -n 19 slurmd  # its jobs inherit the priority
    for _ in $(seq 60); do
        if sinfo -h -o %t 2> /dev/null | grep -qE '^(idle|mix|alloc)$'; then
            sinfo -o "%n: %t, %c CPUs, %m MB, %G"
            return
        fi
        sleep 0.5
    done
    tail -n 20 "$state"/*.log >&2
    fail "the node did not come up; the end of its logs is above"
}

stop() {
    [ -e "$mark" ] || return 0
    if timeout 10 sinfo > /dev/null 2>&1; then  # jobs would outlive the daemons
        squeue -h -o %A | xargs -r scancel
        for _ in $(seq 100); do [ -z "$(squeue -h)" ] && break; sleep 0.4; done
    fi
    end "$state/slurmd.pid" slurmd
    end "$state/slurmctld.pid" slurmctld
    end "$state/munge/munged.pid" munged
    rm -rf /etc/slurm/{slurm,gres,cgroup}.conf "$state"
}

case "${1:-}" in
    install | start | stop) "$1" ;;
    *) fail "usage: $0 install | start | stop" ;;
esac
