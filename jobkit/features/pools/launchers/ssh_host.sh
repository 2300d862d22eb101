# What jobkit runs on a host over ssh (`sh -s`): each worker is a detached process, found by files in $folder.
# Its answers are lines that begin with "jobkit"; others are of the login shell.

umask 077
LC_ALL=C
export LC_ALL

say() { printf 'jobkit %s\n' "$*"; }

fail() {
  say "error $*"
  exit 1
}

# Make the folder of this pool.
open_folder() {
  message=$(mkdir -p "$folder" 2>&1) || fail "$folder cannot be written: ${message##*: }"
  chmod 700 "$folder" 2>/dev/null || fail "$folder belongs to another user"
}

# Write the standard input to a file of this user alone.
put() {
  message=$( { cat >"$1"; } 2>&1 ) || fail "$1 cannot be written: ${message##*: }"
}

# Print what tells a process from a later one with its id; nothing if it has ended.
born() {
  if [ -r /proc/self/stat ]; then
    IFS= read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    # shellcheck disable=SC2086 # the fields behind the name
    set -- ${stat##*) }
    [ "$1" = Z ] || echo "${20} $(cat /proc/sys/kernel/random/boot_id)"
  else
    case $(ps -o state= -p "$1" 2>/dev/null) in
    '' | Z*) ;;
    *) echo $(ps -o lstart= -p "$1") ;; # without the spaces that some systems add, which `read` drops
    esac
  fi
}

# Set $pid and $mark of a unit; fail if it has no living process.
find_unit() {
  pid='' mark=''
  [ -s "$folder/$1.pid" ] && read -r pid mark <"$folder/$1.pid" && [ -n "$mark" ] && [ "$(born "$pid")" = "$mark" ]
}

# Run a program in a session of its own, with this process id.
detached() {
  if command -v setsid >/dev/null; then
    exec setsid "$@"
  else
    exec perl -e 'use POSIX; POSIX::setsid(); exec @ARGV' "$@"
  fi
}

# Start a unit by its script, unless it was started before.
start_unit() {
  if ! [ -s "$folder/$1.pid" ]; then
    (
      trap '' HUP
      (detached sh "$folder/$1.sh" </dev/null >>"$folder/$1.log" 2>&1) &
      pid=$!
      printf '%s %s\n' "$pid" "$(born "$pid")" >"$folder/$1.pid" || kill -KILL "$pid"
      wait "$pid"
      echo "$?" >"$folder/$1.end"
    ) </dev/null >/dev/null 2>&1 &
    tries=0
    until [ -s "$folder/$1.pid" ] || [ "$tries" -gt 100 ]; do
      sleep 0.05
      tries=$((tries + 1))
    done
  fi
  [ -s "$folder/$1.pid" ] || fail "$folder cannot be written: is there no space left?"
  read -r pid mark <"$folder/$1.pid"
  say "unit $1 $pid running"
}

# Print a line for each unit: "running", or "ended" with exit status ("asked" if it was asked to) and last line.
list_units() {
  find "$folder" -name '*.sh' -mmin +10 -exec rm -f {} + 2>/dev/null # of units that were not started
  for file in "$folder"/*.pid; do
    [ -e "$file" ] || continue
    unit=${file##*/} unit=${unit%.pid}
    if find_unit "$unit"; then
      say "unit $unit $pid running"
      continue
    fi
    status='?'
    [ -s "$folder/$unit.end" ] && read -r status <"$folder/$unit.end"
    [ -e "$folder/$unit.stop" ] && status=asked
    line=$(tail -n 20 "$folder/$unit.log" 2>/dev/null | grep . | tail -n 1 | cut -c 1-300)
    say "unit $unit ${pid:-0} ended $status $line"
    [ -n "$(find "$file" -mtime +2)" ] && rm -f "$folder/$unit".*
  done
  return 0
}

# Stop a unit gently, or now: release its jobs, and kill what is left after some seconds.
stop_unit() {
  [ -e "$folder/$1.pid" ] || return 0
  : >"$folder/$1.stop"
  find_unit "$1" || return 0
  if [ "$2" = gently ]; then
    kill -USR1 "$pid" 2>/dev/null
    return 0
  fi
  (
    kill -TERM "$pid"
    sleep 0.3
    kill -TERM "$pid"
    tries=0
    while find_unit "$1" && [ "$tries" -lt 50 ]; do
      sleep 0.2
      tries=$((tries + 1))
    done
    kill -KILL "-$pid"
  ) </dev/null >/dev/null 2>&1 &
  return 0
}

# Print whether an environment is ready.
look_for_environment() {
  if [ -e "$environment/ready" ]; then say "environment ready"; else say "environment missing"; fi
}

# Build an environment by uv, or by a Python of version $1, from the files in $folder; one process at a time.
build_environment() {
  trap 'rm -rf "$folder"' EXIT
  tries=0
  until mkdir "$environment.lock" 2>/dev/null; do
    [ -e "$environment/ready" ] && return 0
    [ -n "$(find "$environment.lock" -maxdepth 0 -mmin +10 2>/dev/null)" ] && rmdir "$environment.lock"
    [ "$tries" -gt 250 ] && fail "another process has been building $environment for minutes"
    sleep 1
    tries=$((tries + 1))
  done
  trap 'rm -rf "$folder"; rmdir "$environment.lock" 2>/dev/null' EXIT
  [ -e "$environment/ready" ] && return 0 # of the process before, whose workers run from it
  PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin:/usr/local/bin:/opt/homebrew/bin"
  rm -rf "$environment"
  if command -v uv >/dev/null; then
    message=$(cd "$folder" && VIRTUAL_ENV='' uv venv --quiet --no-project --python "$1" "$environment" 2>&1 &&
      VIRTUAL_ENV='' uv pip install --quiet --no-config --python "$environment/bin/python" -r all.txt 2>&1)
  elif command -v "python$1" >/dev/null; then
    message=$(cd "$folder" && "python$1" -m venv "$environment" 2>&1 &&
      "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r all.txt 2>&1)
  else
    fail "there is neither uv nor python$1: install uv there (https://docs.astral.sh/uv), or give the pool python="
  fi || {
    rm -rf "$environment"
    fail "its environment could not be built: $(printf '%s' "$message" | tail -n 6 | tr '\n' ' ' | cut -c 1-400)"
  }
  : >"$environment/ready"
}
