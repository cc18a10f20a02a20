// cuDNN: convolutions of NHWC tensors, with descriptors checked as its documentation says.
#include "device.h"

#include <cudnn.h>

#include <algorithm>
#include <vector>

#include "numbers.h"

using namespace software;

namespace {

struct Tensor {
    int n, c, h, w;
    cudnnDataType_t kind;
    bool nhwc;
};

struct Filter {
    int k, c, h, w;
    cudnnDataType_t kind;
    bool nhwc;
};

struct Rule {
    int padding[2], stride[2], dilation[2];
    int groups = 1;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
    cudnnDataType_t compute;
    bool cross;
};

struct Dnn {
    Stream *stream = nullptr;
};

enum class Pass { Forward, Data, Filter };

// One pass over arrays at these places.
struct Convolution {
    Tensor x, y;
    Filter weight;
    Rule rule;
    Type type;
    CUdeviceptr x_at, weight_at, y_at;
};

template <class To, class From> To &as(From *descriptor) { return *reinterpret_cast<To *>(descriptor); }

bool known(cudnnDataType_t kind, Type &type) {
    switch (kind) {
        case CUDNN_DATA_FLOAT: type = Type::F32; return true;
        case CUDNN_DATA_BFLOAT16: type = Type::BF16; return true;
        case CUDNN_DATA_HALF: type = Type::F16; return true;
        default: return false;
    }
}

int out(int size, int kernel, int padding, int stride, int dilation) {
    return (size + 2 * padding - (dilation * (kernel - 1) + 1)) / stride + 1;
}

size_t count(const Tensor &t) { return (size_t)t.n * t.c * t.h * t.w; }
size_t count(const Filter &f) { return (size_t)f.k * f.c * f.h * f.w; }

// Null where cuDNN would take it.
const char *wrong(const Tensor &x, const Filter &w, const Rule &rule, const Tensor &y) {
    if (!x.nhwc || !y.nhwc || !w.nhwc) return "not channels-last";
    if (x.kind != y.kind || x.kind != w.kind) return "of several types";
    if (rule.compute != CUDNN_DATA_FLOAT) return "not computed in f32";
    if (!rule.cross) return "turned around";
    if (w.c * rule.groups != x.c || w.k != y.c || w.k % rule.groups) return "of other channels than its groups";
    if (x.n != y.n) return "of two batches";
    if (y.h != out(x.h, w.h, rule.padding[0], rule.stride[0], rule.dilation[0]) ||
        y.w != out(x.w, w.w, rule.padding[1], rule.stride[1], rule.dilation[1]))
        return "of another output";
    bool half = x.kind != CUDNN_DATA_FLOAT;
    if (half && rule.math != CUDNN_TENSOR_OP_MATH) return "in 16 bits without tensor cores";
    return nullptr;
}

// Reads rows of numbers as floats.
std::vector<float> read(Type type, CUdeviceptr place, size_t count) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = get(type, place, i);
    return values;
}

void write(Type type, CUdeviceptr place, const std::vector<float> &values) {
    for (size_t i = 0; i < values.size(); ++i) put(type, place, i, values[i]);
}

// Calls `pair(input pixel, tap, output pixel)` for every pair that a tap of the kernel joins.
template <class Pair> void pairs(const Convolution &c, Pair pair) {
    const Rule &r = c.rule;
    for (int n = 0; n < c.y.n; ++n)
        for (int oy = 0; oy < c.y.h; ++oy)
            for (int ox = 0; ox < c.y.w; ++ox)
                for (int ky = 0; ky < c.weight.h; ++ky)
                    for (int kx = 0; kx < c.weight.w; ++kx) {
                        int iy = oy * r.stride[0] - r.padding[0] + ky * r.dilation[0];
                        int ix = ox * r.stride[1] - r.padding[1] + kx * r.dilation[1];
                        if (iy < 0 || ix < 0 || iy >= c.x.h || ix >= c.x.w) continue;
                        pair(((size_t)n * c.x.h + iy) * c.x.w + ix, (size_t)ky * c.weight.w + kx,
                             ((size_t)n * c.y.h + oy) * c.y.w + ox);
                    }
}

void convolve(const Convolution &c, Pass pass) {
    std::vector<float> x, w, y;
    if (pass != Pass::Data) x = read(c.type, c.x_at, count(c.x));
    if (pass != Pass::Filter) w = read(c.type, c.weight_at, count(c.weight));
    if (pass != Pass::Forward) y = read(c.type, c.y_at, count(c.y));
    auto &result = pass == Pass::Forward ? y : pass == Pass::Data ? x : w;
    result.assign(pass == Pass::Forward ? count(c.y) : pass == Pass::Data ? count(c.x) : count(c.weight), 0.0f);
    int inputs = c.weight.c, outputs = c.weight.k / c.rule.groups;
    size_t taps = (size_t)c.weight.h * c.weight.w;
    pairs(c, [&](size_t in, size_t tap, size_t at) {
        for (int k = 0; k < c.weight.k; ++k) {
            float *from = &x[in * c.x.c + (size_t)(k / outputs) * inputs], *by = &w[(k * taps + tap) * inputs];
            float &to = y[at * c.y.c + k];
            if (pass == Pass::Forward) {
                float sum = 0;
                for (int i = 0; i < inputs; ++i) sum += from[i] * by[i];
                to += sum;
            } else if (pass == Pass::Data) {
                for (int i = 0; i < inputs; ++i) from[i] += by[i] * to;
            } else {
                for (int i = 0; i < inputs; ++i) by[i] += from[i] * to;
            }
        }
    });
    write(c.type, pass == Pass::Forward ? c.y_at : pass == Pass::Data ? c.x_at : c.weight_at, result);
}

// The algorithms of a pass: the fastest ones want memory, or do not give the same bits every time.
struct Offer {
    int algorithm;
    size_t bytes;
    bool same;
};

std::vector<Offer> offers(Pass pass, const Convolution &c) {
    size_t large = count(c.y) * 4;
    switch (pass) {
        case Pass::Forward:
            return {{CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, large, true},
                    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, 0, true}};
        case Pass::Data:
            return {{CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, 0, false}, {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, large, true}};
        default:
            return {{CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, 0, false}, {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, large, true}};
    }
}

template <class Answer> void list(const std::vector<Offer> &offers, int most, int *count, Answer *answers) {
    *count = std::min<int>(most, (int)offers.size());
    for (int i = 0; i < *count; ++i) {
        answers[i] = {};
        answers[i].algo = (decltype(answers[i].algo))offers[i].algorithm;
        answers[i].status = CUDNN_STATUS_SUCCESS;
        answers[i].time = 1.0f + i;
        answers[i].memory = offers[i].bytes;
        answers[i].determinism = offers[i].same ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    }
}

// A convolution of these, or false with its mistake printed.
bool describe(Convolution &c, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t rule,
              cudnnTensorDescriptor_t y) {
    c.x = as<Tensor>(x), c.y = as<Tensor>(y), c.weight = as<Filter>(w), c.rule = as<Rule>(rule);
    const char *mistake = wrong(c.x, c.weight, c.rule, c.y);
    if (mistake) broken(CUDA_ERROR_INVALID_VALUE, "a convolution that is %s", mistake);
    return !mistake && known(c.x.kind, c.type);
}

bool place(Convolution &c, const void *x, const void *w, const void *y) {
    c.x_at = (CUdeviceptr)x, c.weight_at = (CUdeviceptr)w, c.y_at = (CUdeviceptr)y;
    size_t size = size_of(c.type);
    if (c.x_at % 16 || c.weight_at % 16 || c.y_at % 16) {
        broken(CUDA_ERROR_ILLEGAL_ADDRESS, "a convolution of arrays that do not lie at multiples of 16 bytes");
        return false;
    }
    return valid(c.x_at, count(c.x) * size, "a convolution's input") &&
           valid(c.weight_at, count(c.weight) * size, "a convolution's weight") &&
           valid(c.y_at, count(c.y) * size, "a convolution's output");
}

cudnnStatus_t start(cudnnHandle_t handle, Pass pass, const Convolution &c, int algorithm, void *workspace, size_t bytes,
                    const void *alpha, const void *beta) {
    if (*(const float *)alpha != 1 || *(const float *)beta != 0) return CUDNN_STATUS_NOT_SUPPORTED;
    auto known = offers(pass, c);
    auto offer = std::find_if(known.begin(), known.end(), [&](const Offer &offer) { return offer.algorithm == algorithm; });
    if (offer == known.end()) return CUDNN_STATUS_NOT_SUPPORTED;
    if (bytes < offer->bytes || !valid((CUdeviceptr)workspace, offer->bytes, "a convolution's workspace"))
        return CUDNN_STATUS_BAD_PARAM;
    size_t used = offer->bytes;
    Stream *stream = as<Dnn>(handle).stream;
    CUresult asked = ask(stream ? stream : stream_of(nullptr), {CU_GRAPH_NODE_TYPE_KERNEL, [=] {
                                                                    if (used) std::memset(workspace, 0x7b, used);
                                                                    convolve(c, pass);
                                                                }});
    return asked == CUDA_SUCCESS ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

// Trying algorithms out waits for the device and leaves anything in the result.
template <class Answer>
cudnnStatus_t measure(cudnnHandle_t handle, Pass pass, const Convolution &c, void *workspace, size_t bytes, int most, int *found,
                      Answer *answers) {
    if (capturing()) return refused_while_capturing("a search for algorithms"), CUDNN_STATUS_EXECUTION_FAILED;
    if (bytes && !valid((CUdeviceptr)workspace, bytes, "the workspace of a search")) return CUDNN_STATUS_BAD_PARAM;
    Stream *stream = as<Dnn>(handle).stream;
    run(stream ? stream : stream_of(nullptr));
    size_t size = size_of(c.type);
    if (pass == Pass::Forward) std::memset((void *)c.y_at, 0xff, count(c.y) * size);
    if (pass == Pass::Data) std::memset((void *)c.x_at, 0xff, count(c.x) * size);
    if (pass == Pass::Filter) std::memset((void *)c.weight_at, 0xff, count(c.weight) * size);
    auto all = offers(pass, c);
    list(all, most, found, answers);
    for (int i = 0; i < *found; ++i)
        if (all[i].bytes > bytes) answers[i].status = CUDNN_STATUS_ALLOC_FAILED;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

extern "C" {

size_t cudnnGetVersion() { return CUDNN_VERSION; }

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    LOCKED;
    if (!bound()) return CUDNN_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cudnnHandle_t>(new Dnn);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    delete &as<Dnn>(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    LOCKED;
    as<Dnn>(handle).stream = stream_of((CUstream)stream);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *made) {
    *made = reinterpret_cast<cudnnTensorDescriptor_t>(new Tensor{});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) {
    delete &as<Tensor>(made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t made, cudnnTensorFormat_t format, cudnnDataType_t kind, int n,
                                         int c, int h, int w) {
    if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    as<Tensor>(made) = {n, c, h, w, kind, format == CUDNN_TENSOR_NHWC};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t, cudnnDataType_t, int, int, int, int, int, int, int, int) {
    return CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *made) {
    *made = reinterpret_cast<cudnnFilterDescriptor_t>(new Filter{});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t made) {
    delete &as<Filter>(made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t made, cudnnDataType_t kind, cudnnTensorFormat_t format, int k,
                                         int c, int h, int w) {
    if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    as<Filter>(made) = {k, c, h, w, kind, format == CUDNN_TENSOR_NHWC};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *made) {
    *made = reinterpret_cast<cudnnConvolutionDescriptor_t>(new Rule{});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t made) {
    delete &as<Rule>(made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t made, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
    if (pad_h < 0 || pad_w < 0 || u < 1 || v < 1 || dilation_h < 1 || dilation_w < 1) return CUDNN_STATUS_BAD_PARAM;
    Rule &rule = as<Rule>(made);
    rule = {{pad_h, pad_w}, {u, v}, {dilation_h, dilation_w}, 1, CUDNN_DEFAULT_MATH, compute, mode == CUDNN_CROSS_CORRELATION};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t made, int groups) {
    as<Rule>(made).groups = groups;
    return groups > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t made, cudnnMathType_t math) {
    as<Rule>(made).math = math;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                                                     cudnnConvolutionDescriptor_t rule, cudnnTensorDescriptor_t y, int most,
                                                     int *found, cudnnConvolutionFwdAlgoPerf_t *answers) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y)) return CUDNN_STATUS_NOT_SUPPORTED;
    list(offers(Pass::Forward, c), most, found, answers);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t y,
                                                          cudnnConvolutionDescriptor_t rule, cudnnTensorDescriptor_t x, int most,
                                                          int *found, cudnnConvolutionBwdDataAlgoPerf_t *answers) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y)) return CUDNN_STATUS_NOT_SUPPORTED;
    list(offers(Pass::Data, c), most, found, answers);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t y,
                                                            cudnnConvolutionDescriptor_t rule, cudnnFilterDescriptor_t w,
                                                            int most, int *found, cudnnConvolutionBwdFilterAlgoPerf_t *answers) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y)) return CUDNN_STATUS_NOT_SUPPORTED;
    list(offers(Pass::Filter, c), most, found, answers);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x, const void *x_at,
                                                     cudnnFilterDescriptor_t w, const void *w_at,
                                                     cudnnConvolutionDescriptor_t rule, cudnnTensorDescriptor_t y, void *y_at,
                                                     int most, int *found, cudnnConvolutionFwdAlgoPerf_t *answers,
                                                     void *workspace, size_t bytes) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return measure(handle, Pass::Forward, c, workspace, bytes, most, found, answers);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t handle, cudnnFilterDescriptor_t w, const void *w_at,
                                                          cudnnTensorDescriptor_t y, const void *y_at,
                                                          cudnnConvolutionDescriptor_t rule, cudnnTensorDescriptor_t x,
                                                          void *x_at, int most, int *found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t *answers, void *workspace,
                                                          size_t bytes) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return measure(handle, Pass::Data, c, workspace, bytes, most, found, answers);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t handle, cudnnTensorDescriptor_t x, const void *x_at,
                                                            cudnnTensorDescriptor_t y, const void *y_at,
                                                            cudnnConvolutionDescriptor_t rule, cudnnFilterDescriptor_t w,
                                                            void *w_at, int most, int *found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *answers, void *workspace,
                                                            size_t bytes) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return measure(handle, Pass::Filter, c, workspace, bytes, most, found, answers);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t x, const void *x_at,
                                      cudnnFilterDescriptor_t w, const void *w_at, cudnnConvolutionDescriptor_t rule,
                                      cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
                                      cudnnTensorDescriptor_t y, void *y_at) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return start(handle, Pass::Forward, c, algorithm, workspace, bytes, alpha, beta);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, cudnnFilterDescriptor_t w, const void *w_at,
                                           cudnnTensorDescriptor_t y, const void *y_at, cudnnConvolutionDescriptor_t rule,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace, size_t bytes,
                                           const void *beta, cudnnTensorDescriptor_t x, void *x_at) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return start(handle, Pass::Data, c, algorithm, workspace, bytes, alpha, beta);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t x,
                                             const void *x_at, cudnnTensorDescriptor_t y, const void *y_at,
                                             cudnnConvolutionDescriptor_t rule, cudnnConvolutionBwdFilterAlgo_t algorithm,
                                             void *workspace, size_t bytes, const void *beta, cudnnFilterDescriptor_t w,
                                             void *w_at) {
    LOCKED;
    Convolution c;
    if (!describe(c, x, w, rule, y) || !place(c, x_at, w_at, y_at)) return CUDNN_STATUS_BAD_PARAM;
    return start(handle, Pass::Filter, c, algorithm, workspace, bytes, alpha, beta);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t,
                                                      cudnnConvolutionDescriptor_t, cudnnTensorDescriptor_t,
                                                      cudnnConvolutionFwdAlgo_t, size_t *) {
    return CUDNN_STATUS_NOT_SUPPORTED;
}

} // extern "C"
