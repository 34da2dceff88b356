#!/bin/bash
# Compares `vitrine dump` with transformers (FP32, eager) and the FP64 model: 30 M random parameters, YaRN 16, 1,500 tokens.
#   peer_tiny.sh VITRINE WORK_FOLDER [PYTHON_WITH_TRANSFORMERS...]
# The last words are the command that runs Python where torch and transformers are (default python3; a chroot works if
# WORK_FOLDER and this folder are visible under the same paths there). Without them the FP64 model alone is the judge.
# Run by hand: takes minutes.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }
vitrine=$(realpath "$1"); work=$(realpath -m "$2"); shift 2
python=("${@:-python3}")
here=$(dirname "$(realpath "$0")")
model=$work/tiny-hf
mkdir -p "$work"
[ -e "$model/model.safetensors" ] || python3 "$here/gen_dsv4.py" --preset tiny --hf "$model"
[ -e "$model/ids.json" ] || python3 -c "
import json, numpy, sys
json.dump(numpy.random.default_rng(20260102).integers(0, 512, 1500).tolist(), open(sys.argv[1], 'w'))" "$model/ids.json"
if [ ! -e "$model/hf_logits.safetensors" ] && "${python[@]}" -c 'import transformers, torch' 2>/dev/null; then
    python3 -c "import json, sys; print(*json.load(open(sys.argv[1])))" "$model/ids.json" > "$work/ids.txt"
    "${python[@]}" "$here/hf_logits.py" "$model" "$work/ids.txt" 1500 "$work/hf.f32"
    PYTHONPATH=$here python3 -c "
import json, numpy, sys
from checkpoint import write_safetensors
ids = numpy.array(json.load(open(sys.argv[1])), numpy.int32)
logits = numpy.fromfile(sys.argv[2], numpy.float32).reshape(len(ids), -1)
write_safetensors(sys.argv[3], dict(input_ids=ids, logits=logits))" \
        "$model/ids.json" "$work/hf.f32" "$model/hf_logits.safetensors"
fi
if [ ! -e "$model/hf_logits.safetensors" ]; then
    echo "transformers not found: comparing with the FP64 model only" >&2
    PYTHONPATH=$here python3 -c "
import json, numpy, sys
from checkpoint import write_safetensors
from model import Model
ids = numpy.array(json.load(open(sys.argv[1] + '/ids.json')), numpy.int32)
logits, _ = Model(sys.argv[1], fp32_angles=True).forward(ids)
write_safetensors(sys.argv[2], dict(input_ids=ids, logits=logits.astype(numpy.float32)))" \
        "$model" "$work/fp64_logits.safetensors"
    expected=$work/fp64_logits.safetensors
fi
"$vitrine" dump -m "$model" --numerics exact --tokens "$model/ids.json" --out "$work/vitrine.safetensors"
python3 "$here/compare_logits.py" "${expected:-$model/hf_logits.safetensors}" "$work/vitrine.safetensors" --model "$model"
