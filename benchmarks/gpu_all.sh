#!/usr/bin/env bash
# All measurements on a GPU in one command, within 12 minutes, the most important first:
#
#     bash benchmarks/gpu_all.sh
#
# What it prints also goes to $OUT/log, what decoding processes said to $OUT/decoding-processes, and the results to
# $OUT/gpu; without OUT, to build/gpu and benchmarks/results/gpu. They are few files, since a lent machine may give few
# back. Each measurement has a limit of its own. One that fails, or for which no time is left, is named at the end, and
# the next one starts. To try the script without a GPU:
#
#     DEVICE=cpu PRESET=tiny ENCODER=random:tiny:0 KIND=720p MINUTES=2 bash benchmarks/gpu_all.sh
set -u
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
PRESET=${PRESET:-giant}
ENCODER=${ENCODER:-random:$PRESET:0}
KIND=${KIND:-1080p}
MINUTES=${MINUTES:-60}
LIMIT_S=${LIMIT_S:-720}
LOGS=${OUT:-build/gpu}
RESULTS=${OUT:+$OUT/gpu}
RESULTS=${RESULTS:-benchmarks/results/gpu}
export PYTHONPATH=$PWD RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
mkdir -p "$LOGS" "$RESULTS"
: > "$LOGS/log"
failed=

# run NAME SECONDS COMMAND…: runs the command for at most so many seconds, and no longer than there is time left.
run() {
    local name=$1 limit=$2 left=$((LIMIT_S - SECONDS))
    shift 2
    if [ "$left" -lt 20 ]; then
        echo "== $name: skipped, no time is left"
        failed="$failed $name"
        return
    fi
    [ "$left" -lt "$limit" ] && limit=$left
    echo "== $name: at most $limit s, after $SECONDS s" | tee -a "$LOGS/log"
    if ! timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$LOGS/log"; then
        echo "== $name: failed"
        failed="$failed $name"
    fi
}

# script NAME SECONDS FILE ARGUMENTS…: the same for a benchmark that this checkout may not have.
script() {
    local name=$1 limit=$2 file=benchmarks/$3
    shift 3
    if [ -f "$file" ]; then
        run "$name" "$limit" "$PYTHON" "$file" "$@"
    else
        echo "== $name: skipped, $file is not in this checkout"
    fi
}

hour() {
    local name=$1 limit=$2
    shift 2
    script "$name" "$limit" gpu_hour.py --encoder "$ENCODER" --results "$RESULTS" "$@"
}

set -o pipefail
# What the driver brings, where the machine's memory for Ray lies, and its limits: most of what fails, fails for these.
machine() {
    nvidia-smi
    ldconfig -p | grep -E 'libcuda\.so|libnvcuvid|libnvidia-encode' || echo "no library of the driver is in the cache of ld.so"
    ls -d /dev/nvidia* /proc/driver/nvidia/gpus/* 2>&1
    command -v git gcc || echo "git or gcc is missing"
    df -h /dev/shm "${TMPDIR:-/tmp}"
    ulimit -a
}
export -f machine
command -v nvidia-smi > /dev/null && run machine 20 bash -c machine
script encoder 120 gpu.py --device "$DEVICE" --presets "$PRESET" --ways eager --batches 1,16,64 --seconds 2
hour hour-cold 240 --make-hour "$KIND" --minutes "$MINUTES"
hour hour-warm 120 --make-hour "$KIND" --minutes "$MINUTES" --warm --modes every,vectors
if [ "$DEVICE" = cuda ]; then
    script nvdec 90 nvdec.py --video "benchmarks/.cache/$KIND/minute.mp4" --seconds 20 --sessions 1,4,7,10
    hour hour-fp8 120 --make-hour "$KIND" --minutes "$MINUTES" --warm --precision fp8
fi
hour hour-15s 120 --make-hour "$KIND" --minutes "$MINUTES" --warm --modes 15s-keyframes,15s
script tagging 45 tagging.py --device "$DEVICE" --seconds 1
hour hevc 90 --make-hour hevc --minutes "$MINUTES" --warm
hour 720p 90 --make-hour 720p --minutes "$MINUTES" --warm
if [ "$DEVICE" = cuda ]; then
    script encoder-ways 150 gpu.py --device "$DEVICE" --presets "$PRESET" --batches 16 --seconds 2
fi

# Ray keeps what its actors and their decoding processes print to itself.
timeout 20 grep -rhE '^(halsted decoding process:|\[FATAL\])' "${RAY_TMPDIR:-/tmp}"/ray/session_*/logs 2> /dev/null \
    | sort | uniq -c | sort -rn | head -50 > "$LOGS/decoding-processes"
echo "== done in $SECONDS s; results in $RESULTS, the log in $LOGS/log"
[ -z "$failed" ] || { echo "== failed or skipped:$failed"; exit 1; }
