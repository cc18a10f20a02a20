#!/usr/bin/env bash
# Runs a command, a program built with `--features cuda`, on a CUDA device that is played in software, for a machine without one:
#
#     tests/gpu/software/run.sh cargo test --release --features cuda --test gpu
#
# All of the program runs but the libraries that come with the device: kernels are its own, compiled for the host, the driver,
# cuDNN and cuBLAS are those of this folder. They are slow and check what they are asked: places outside arrays, memory that is
# read before it is written or after it has been given back, copies that are not waited for, what a captured stream does not
# bear, limits of launches. Needs the toolkit that it was built with, in CUDA_PATH, and a C++ compiler.
# SOFTWARE_MEMORY is the device's memory in bytes [default: 4 GiB], SOFTWARE_DEVICES how many there are; with SOFTWARE_REPORT=1
# each process says which kernels of Candle it uses, and at its end how much it has asked for.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../../../src/tensor/gpu/kernels
out=${SOFTWARE_OUT:-${TMPDIR:-/tmp}/runner-software-device}
toolkit=${CUDA_PATH:?"names the CUDA toolkit that the program was built with"}
compile="${CXX:-c++} -std=c++17 -shared -fPIC"
mkdir -p "$out"
newer() { [ ! -e "$1" ] || [ -n "$(find "${@:2}" -newer "$1" -print -quit)" ]; }

for type in f32 bf16 f16; do
    library=$out/kernels_$type.so
    if newer "$library" "$kernels" "$here/../emulate.h"; then
        $compile -O2 -fvisibility=hidden -x c++ -DTYPE_$type -I "$here/.." "$kernels/all.cu" -o "$library"
    fi
done
if newer "$out/libcuda.so.1" "$here"; then
    $compile -O3 -fassociative-math -fno-signed-zeros -fno-trapping-math -I "$toolkit/include" "$here"/*.cpp -Wl,--version-script="$here/exports.map" -ldl -o "$out/libcuda.so.1"
    for library in libcudnn.so.9 libcublas.so.13 libcurand.so.10; do ln -sf libcuda.so.1 "$out/$library"; done
fi
LD_LIBRARY_PATH=$out:$toolkit/lib64:$toolkit/lib:${LD_LIBRARY_PATH:-} exec "$@"
