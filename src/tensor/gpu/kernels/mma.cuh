// Products of small matrices on tensor cores: a warp holds 16 rows, in the places that PTX gives to mma.m16n8k16. Lane l
// has rows l / 4 and l / 4 + 8, and of each eight columns the two from l % 4 * 2 on.
#pragma once
#include "common.cuh"

#ifndef TYPE_f32

#ifdef __CUDACC__
#ifdef TYPE_bf16
#define MMA_TYPE "bf16"
#else
#define MMA_TYPE "f16"
#endif

// sums (16, 8) += a (16, 16) b (16, 8).
DEVICE void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four (8, 8) matrices of shared memory, each turned; lane 8 i + j points to row j of matrix i.
DEVICE void load_turned(unsigned (&pairs)[4], const T *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}
#else
DEVICE void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulated::multiply_add<T>(sums, a, b);
}
DEVICE void load_turned(unsigned (&pairs)[4], const T *row) { emulated::load_turned(pairs, row); }
#endif

DEVICE unsigned load_pair(const T *p) { return *reinterpret_cast<const unsigned *>(p); }

struct alignas(4) Pair {
    T values[2];
};

DEVICE void store_pair(T *p, float first, float second) {
    *reinterpret_cast<Pair *>(p) = Pair{{to<T>(first), to<T>(second)}};
}

DEVICE unsigned make_pair(float first, float second) {
    unsigned word;
    store_pair(reinterpret_cast<T *>(&word), first, second);
    return word;
}

#endif
