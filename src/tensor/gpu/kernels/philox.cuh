// The random numbers of `tensor/rng.rs`: Philox 4x32-10.
#pragma once
#include "common.cuh"

struct Key {
    unsigned words[2];
};

struct Draws {
    unsigned values[4];
};

DEVICE Draws philox(unsigned a, unsigned b, unsigned c, unsigned d, Key key) {
    for (int round = 0; round < 10; ++round) {
        unsigned long long left = (unsigned long long)a * 0xd2511f53u, right = (unsigned long long)c * 0xcd9e8d57u;
        a = (unsigned)(right >> 32) ^ b ^ key.words[0];
        b = (unsigned)right;
        c = (unsigned)(left >> 32) ^ d ^ key.words[1];
        d = (unsigned)left;
        key.words[0] += 0x9e3779b9u;
        key.words[1] += 0xbb67ae85u;
    }
    return {{a, b, c, d}};
}

// The key below this one at `word`.
DEVICE Key below(Key key, Count word) {
    Draws block = philox((unsigned)word, (unsigned)(word >> 32), 0x6b657920u, 0, key);
    return {{block.values[0], block.values[1]}};
}

// Four of a key's random integers: those from `4 * counter` on.
DEVICE Draws draws(Key key, Count counter) { return philox((unsigned)counter, (unsigned)(counter >> 32), 0, 0, key); }
