// Changes that draw random numbers for each pixel: those of `tensor/rng.rs`.
#pragma once
#include "../philox.cuh"
#include "canvas.cuh"

// Random numbers under a key, from one on.
struct Stream {
    Key key;
    Count at;
};

// From three words.
DEVICE Stream stream(const double *words) { return {{{(unsigned)words[0], (unsigned)words[1]}}, (Count)words[2]}; }

DEVICE unsigned pick(const Draws &four, int place) {
    return place == 0 ? four.values[0] : place == 1 ? four.values[1] : place == 2 ? four.values[2] : four.values[3];
}

// The two integers from `skipped` on as one number in [0, 1) with 53 bits.
DEVICE double uniform(const Stream &s, Count skipped) {
    Count at = s.at + skipped;
    int place = (int)(at & 3);
    Draws four = draws(s.key, at >> 2);
    unsigned high = pick(four, place);
    if (place == 3) four = draws(s.key, (at >> 2) + 1);
    unsigned low = pick(four, (place + 1) & 3);
    return ((double)(high >> 5) * 67108864.0 + (double)(low >> 6)) / 9007199254740992.0;
}

// Two independent standard normals of four integers.
DEVICE void normals(const Stream &s, Count skipped, double &first, double &second) {
    double radius = sqrt(-2.0 * log(1.0 - uniform(s, skipped)));
    double angle = 6.28318530717958647692 * uniform(s, skipped + 2);
    first = radius * cos(angle);
    second = radius * sin(angle);
}

DEVICE Byte noisy(Byte level, double normal, float mean, float sigma) {
    float noise = __fadd_rn(mean, __fmul_rn((float)normal, sigma));
    return clipped((float)level + truncf(noise));
}

// `augment/gaussian_noise.rs`
APART void add_noise(const Canvas &c, const double *words) {
    float mean = (float)words[0], sigma = (float)words[1];
    Stream s = stream(words + 2);
    SHARE(i, (c.values() + 1) / 2) {
        double first, second;
        normals(s, 4 * (Count)i, first, second);
        Byte *pair = c.here + 2 * i;
        pair[0] = noisy(pair[0], first, mean, sigma);
        if (2 * i + 1 < c.values()) pair[1] = noisy(pair[1], second, mean, sigma);
    }
}

// A colour of its own for each pixel of a box: `augment/random_erasing.rs`
APART void scatter(const Canvas &c, const double *words) {
    int left = (int)words[0], top = (int)words[1], width = (int)words[2], height = (int)words[3];
    Stream s = stream(words + 4);
    SHARE(i, width * height) {
        Byte *pixel = c.here + ((top + i / width) * c.width + left + i % width) * 3;
        for (int k = 0; k < 3; ++k) {
            double normal, unused;
            normals(s, 4 * (3 * (Count)i + k), normal, unused);
            pixel[k] = clipped(round(__dadd_rn(__dmul_rn(normal, words[10 + k]), words[7 + k]) * 255.0));
        }
    }
}
