// Numbers of the types that products and convolutions compute in.
#pragma once

#include <cuda.h>

#include <cstring>

namespace software {

enum class Type { F32, BF16, F16 };

inline size_t size_of(Type type) { return type == Type::F32 ? 4 : 2; }

inline float get(Type type, CUdeviceptr place, size_t index) {
    if (type == Type::F32) return ((const float *)place)[index];
    if (type == Type::F16) return (float)((const _Float16 *)place)[index];
    unsigned bits = (unsigned)((const unsigned short *)place)[index] << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Rounds to nearest even.
inline void put(Type type, CUdeviceptr place, size_t index, float value) {
    if (type == Type::F32) {
        ((float *)place)[index] = value;
    } else if (type == Type::F16) {
        ((_Float16 *)place)[index] = (_Float16)value;
    } else {
        unsigned bits;
        std::memcpy(&bits, &value, 4);
        bool number = value == value;
        ((unsigned short *)place)[index] = number ? (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) : 0x7fff;
    }
}

} // namespace software
