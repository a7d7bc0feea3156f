# Sourced with a proof in Python, its parts, and the options of the command line: runs the parts that are named, or all, in a folder.
proof=$1 parts=$2 folder=
shift 2
[[ ${1:-} == --folder ]] && { folder=$2; shift 2; }
folder=${folder:-$(mktemp -d)}
for part in ${*:-$parts}; do "$python" "$root/scripts/orchestrators/$proof" "$folder" "$part"; done
echo "results: $folder/results.jsonl"
