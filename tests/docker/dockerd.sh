#!/usr/bin/env bash
# Makes a Docker daemon answer: the one that is there, or one started by hand with folders of its own.
#   dockerd.sh start   prints DOCKER_HOST=… of the daemon that answers
#   dockerd.sh stop    ends the daemon that `start` started, by its pid
set -euo pipefail
home="${PARTYWALL_DOCKER_HOME:-/tmp/partywall-docker}"
socket="$home/docker.sock"

# The pid of the daemon that `start` started, while it runs; a pid file outlives its process, and pids come again.
ours() { [ -f "$home/pid" ] && [ "$(cat "/proc/$(cat "$home/pid")/comm" 2>/dev/null)" = dockerd ] && cat "$home/pid"; }
answers() { docker --host "$1" version >/dev/null 2>&1; }

case "${1:-start}" in
start)
  if ! command -v dockerd >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "error: no dockerd; install Docker" >&2; exit 2; }
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker.io; } >&2
  fi
  for host in "${DOCKER_HOST:-}" "unix:///var/run/docker.sock" "unix://$socket"; do
    if [ -n "$host" ] && answers "$host"; then echo "DOCKER_HOST=$host"; exit 0; fi
  done
  mkdir -p "$home"
  ours >/dev/null || rm -f "$home/pid" "$socket"
  dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/pid" --host "unix://$socket" \
    >"$home/log" 2>&1 &
  for _ in $(seq 100); do
    if answers "unix://$socket"; then echo "DOCKER_HOST=unix://$socket"; exit 0; fi
    sleep 0.2
  done
  echo "error: dockerd does not answer; its log ends with:" >&2
  tail -n 5 "$home/log" >&2
  exit 4
  ;;
stop)
  if pid=$(ours); then
    kill "$pid"
    for _ in $(seq 100); do ours >/dev/null || exit 0; sleep 0.1; done
    echo "error: dockerd $pid does not end" >&2
    exit 4
  fi
  ;;
*)
  echo "usage: dockerd.sh start|stop" >&2
  exit 2
  ;;
esac
