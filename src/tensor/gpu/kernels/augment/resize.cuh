// Resizing as Pillow does: `tensor/resize.rs`, to the bit.
#pragma once
#include "canvas.cuh"

// Where the samples of an axis come from, in steps that are summed up; -1 beyond the image.
DEVICE void note_places(int *places, int count, int size, double start, double step) {
    double at = start;
    for (int i = 0; i < count; ++i) {
        places[i] = at >= 0.0 && at < size ? (int)at : -1;
        at = __dadd_rn(at, step);
    }
}

// Puts pixels together from columns and rows in the other place; the colour where one of them is none.
DEVICE void gather(const Canvas &c, const int *columns, const int *rows, int width, int height, int colour) {
    SHARE(i, width * height) {
        int x = columns[i % width], y = rows[i / width];
        if (x < 0 || y < 0) put_colour(c.there + i * 3, colour);
        else copy_pixel(c.there + i * 3, c.here + (y * c.width + x) * 3);
    }
}

constexpr int BILINEAR = 1, BICUBIC = 2;

DEVICE double sinc(double x) {
    double turned = x * 3.14159265358979323846;
    return x == 0.0 ? 1.0 : sin(turned) / turned;
}

// A filter's weight; none is fused, so that each step is rounded as on the CPU.
DEVICE double filter_weight(int filter, double x) {
    if (filter == BILINEAR) return fabs(x) < 1.0 ? 1.0 - fabs(x) : 0.0;
    if (filter == BICUBIC) {
        x = fabs(x);
        if (x < 1.0) return __dadd_rn(__dmul_rn(__dmul_rn(__dsub_rn(__dmul_rn(1.5, x), 2.5), x), x), 1.0);
        return x < 2.0 ? __dsub_rn(__dmul_rn(__dadd_rn(__dmul_rn(x - 5.0, x), 8.0), x), 4.0) * -0.5 : 0.0;
    }
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

constexpr int PRECISION = 22;

// For each sample of an axis: the first one that it is made of, how many, and their weights in fixed point; `length`
// numbers from one to the next.
DEVICE void note_windows(int *windows, int length, int filter, int from, int to) {
    double scale = (double)from / (double)to, widened = scale > 1.0 ? scale : 1.0, step = 1.0 / widened;
    double reach = (filter == BILINEAR ? 1.0 : filter == BICUBIC ? 2.0 : 3.0) * widened;
    SHARE(i, to) {
        double centre = __dmul_rn((double)i + 0.5, scale);
        double low = __dadd_rn(__dsub_rn(centre, reach), 0.5), high = __dadd_rn(__dadd_rn(centre, reach), 0.5);
        int first = low > 0.0 ? (int)low : 0, end = high < from ? (int)high : from;
        int *window = windows + i * length;
        window[0] = first, window[1] = end - first;
        double sum = 0.0;
        for (int at = first; at < end; ++at) {
            sum = __dadd_rn(sum, filter_weight(filter, __dmul_rn(__dadd_rn((double)at - centre, 0.5), step)));
        }
        for (int at = first; at < end; ++at) {
            double weight = filter_weight(filter, __dmul_rn(__dadd_rn((double)at - centre, 0.5), step));
            if (sum != 0.0) weight /= sum;
            window[2 + at - first] = (int)(weight * (1 << PRECISION) + copysign(0.5, weight));
        }
    }
}

// One half, so that cutting off the fraction rounds.
constexpr int ROUNDING = 1 << (PRECISION - 1);

DEVICE Byte level_of(int sum) {
    int level = sum >> PRECISION;
    return (Byte)(level < 0 ? 0 : level > 255 ? 255 : level);
}

// Every sample of a row, or of a column, from its window: `step` bytes lie between neighbours.
DEVICE void weigh(const int *window, const Byte *from, int step, Byte *out) {
    int sums[3] = {ROUNDING, ROUNDING, ROUNDING};
    for (int n = 0; n < window[1]; ++n) {
        for (int k = 0; k < 3; ++k) sums[k] += from[n * step + k] * window[2 + n];
    }
    for (int k = 0; k < 3; ++k) out[k] = level_of(sums[k]);
}

DEVICE void resize_width(Canvas &c, const int *windows, int length, int width) {
    if (width == c.width) return;
    SHARE(i, width * c.height) {
        const int *window = windows + i % width * length;
        weigh(window, c.here + (i / width * c.width + window[0]) * 3, 3, c.there + i * 3);
    }
    c.width = width;
    exchange(c);
    __syncthreads();
}

DEVICE void resize_height(Canvas &c, const int *windows, int length, int height) {
    if (height == c.height) return;
    SHARE(i, c.width * height) {
        const int *window = windows + i / c.width * length;
        weigh(window, c.here + (window[0] * c.width + i % c.width) * 3, c.width * 3, c.there + i * 3);
    }
    c.height = height;
    exchange(c);
    __syncthreads();
}

// Nearest: a place beyond the last sample, by rounding, is the last.
DEVICE void note_nearest(int *places, int from, int to) {
    double scale = (double)from / (double)to;
    note_places(places, to, from, scale * 0.5, scale);
    for (int i = to; i-- > 0 && places[i] < 0;) places[i] = from - 1;
}

APART void resize(Canvas &c, const double *words) {
    int width = (int)words[0], height = (int)words[1], filter = (int)words[2];
    int across = (int)words[4], down = (int)words[5];
    int *columns = (int *)c.notes, *rows = columns + width * across;
    if (filter == 0) {
        if (threadIdx.x == 0) note_nearest(columns, c.width, width);
        if (threadIdx.x == 1) note_nearest(rows, c.height, height);
        __syncthreads();
        gather(c, columns, rows, width, height, 0);
        c.width = width, c.height = height;
        return exchange(c);
    }
    note_windows(columns, across, filter, c.width, width);
    note_windows(rows, down, filter, c.height, height);
    __syncthreads();
    bool height_first = words[3] != 0;
    if (height_first) resize_height(c, rows, down, height);
    resize_width(c, columns, across, width);
    if (!height_first) resize_height(c, rows, down, height);
}
