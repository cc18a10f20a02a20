// Where pixels lie in images, and what windows see of them.
#pragma once
#include "columns.cuh"

// A row of (images, height, width).
struct Pixel {
    Count image;
    int y, x;
};

DEVICE Pixel pixel(Count row, int height, int width) {
    // Division costs far less in 32 bits.
    if (row >> 32 == 0) {
        unsigned at = (unsigned)row, line = at / (unsigned)width;
        return {line / (unsigned)height, (int)(line % (unsigned)height), (int)(at % (unsigned)width)};
    }
    Count line = row / width;
    return {line / height, (int)(line % height), (int)(row % width)};
}

// Kernels that go image by image have them in z.
#define FOR_EACH_IMAGE(image, images) for (Count image = blockIdx.z; image < (images); image += gridDim.z)

struct Window {
    int in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

    // Where a tap of an output lies along an axis; outside of the image where it sees padding.
    DEVICE int source_y(int y, int tap) const { return y * stride_h + tap * dilation_h - pad_h; }
    DEVICE int source_x(int x, int tap) const { return x * stride_w + tap * dilation_w - pad_w; }

    // Which output sees an input through a tap; negative where none does.
    DEVICE int sink_y(int y, int tap) const { return sink(y + pad_h - tap * dilation_h, stride_h, out_h); }
    DEVICE int sink_x(int x, int tap) const { return sink(x + pad_w - tap * dilation_w, stride_w, out_w); }

    static DEVICE int sink(int place, int stride, int size) {
        return place < 0 || place % stride || place / stride >= size ? -1 : place / stride;
    }
};

#define WINDOW_ARGUMENTS \
    int in_h, int in_w, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, \
        int pad_w, int dilation_h, int dilation_w
#define WINDOW \
    Window { in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w }
