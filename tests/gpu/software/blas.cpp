// cuBLAS: one kind of product, column after column; and cuRAND's handles, which Candle makes and nothing uses.
#include "device.h"

#include <cublas_v2.h>
#include <curand.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "numbers.h"

using namespace software;

namespace {

struct Blas {
    Stream *stream = nullptr;
    CUdeviceptr workspace = 0;
    size_t workspace_bytes = 0;
};

// Columns of `stride` numbers each, or rows where it is turned.
struct Matrix {
    CUdeviceptr place;
    int rows, columns, stride;
    bool turned;
    long long step;
    Type type;

    size_t index(int row, int column) const {
        return turned ? (size_t)row * stride + column : (size_t)column * stride + row;
    }
    // From the first number to behind the last one.
    size_t span(int batch) const {
        return (size_t)std::max(0, batch - 1) * step + index(rows - 1, columns - 1) + 1;
    }
    bool valid(int batch, const char *what) const {
        int least = turned ? columns : rows;
        if (stride < std::max(1, least)) {
            broken(CUDA_ERROR_INVALID_VALUE, "%s: columns of %d numbers lie %d apart", what, least, stride);
            return false;
        }
        if (place % size_of(type)) {
            broken(CUDA_ERROR_ILLEGAL_ADDRESS, "%s lies at %llx", what, place);
            return false;
        }
        return software::valid(place, span(batch) * size_of(type), what);
    }
    std::vector<float> read(int of_batch) const {
        std::vector<float> values((size_t)rows * columns);
        for (int column = 0; column < columns; ++column)
            for (int row = 0; row < rows; ++row)
                values[(size_t)column * rows + row] = get(type, place, of_batch * step + index(row, column));
        return values;
    }
};

void multiply(const Matrix &a, const Matrix &b, const Matrix &c, int which, float alpha, float beta) {
    std::vector<float> left = a.read(which), right = b.read(which), sums(a.rows);
    for (int column = 0; column < c.columns; ++column) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int k = 0; k < a.columns; ++k) {
            float factor = right[(size_t)column * b.rows + k];
            const float *from = &left[(size_t)k * a.rows];
            for (int row = 0; row < a.rows; ++row) sums[row] += from[row] * factor;
        }
        for (int row = 0; row < c.rows; ++row) {
            size_t at = which * c.step + c.index(row, column);
            // What stands there may be anything where it does not count.
            float before = beta == 0 ? 0 : beta * get(c.type, c.place, at);
            put(c.type, c.place, at, alpha * sums[row] + before);
        }
    }
}

bool known(cudaDataType kind, Type &type) {
    switch (kind) {
        case CUDA_R_32F: type = Type::F32; return true;
        case CUDA_R_16BF: type = Type::BF16; return true;
        case CUDA_R_16F: type = Type::F16; return true;
        default: return false;
    }
}

cublasStatus_t status(CUresult result) { return result == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED; }

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
    LOCKED;
    if (!bound()) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cublasHandle_t>(new Blas);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    LOCKED;
    delete reinterpret_cast<Blas *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    LOCKED;
    // It also takes the workspace back to its own.
    *reinterpret_cast<Blas *>(handle) = {stream_of((CUstream)stream)};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes) {
    LOCKED;
    Blas *blas = reinterpret_cast<Blas *>(handle);
    if (!valid((CUdeviceptr)workspace, bytes, "cuBLAS's workspace") || (CUdeviceptr)workspace % 256) return CUBLAS_STATUS_INVALID_VALUE;
    blas->workspace = (CUdeviceptr)workspace;
    blas->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m, int n,
                                          int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
                                          long long a_step, const void *b, cudaDataType b_type, int ldb, long long b_step,
                                          const void *beta, void *c, cudaDataType c_type, int ldc, long long c_step, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
    LOCKED;
    Blas *blas = reinterpret_cast<Blas *>(handle);
    Type types[3];
    if (!known(a_type, types[0]) || !known(b_type, types[1]) || !known(c_type, types[2]) || types[0] != types[1])
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool mixed = types[2] != types[0] && types[2] != Type::F32;
    bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (mixed || (compute != CUBLAS_COMPUTE_32F && !(tf32 && types[0] == Type::F32))) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (m < 0 || n < 0 || k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    Matrix first{(CUdeviceptr)a, m, k, lda, left != CUBLAS_OP_N, a_step, types[0]};
    Matrix second{(CUdeviceptr)b, k, n, ldb, right != CUBLAS_OP_N, b_step, types[1]};
    Matrix out{(CUdeviceptr)c, m, n, ldc, false, c_step, types[2]};
    if (!first.valid(batch, "a product's left factor") || !second.valid(batch, "a product's right factor") ||
        !out.valid(batch, "a product's result"))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (blas->workspace && !valid(blas->workspace, blas->workspace_bytes, "cuBLAS's workspace"))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    Stream *stream = blas->stream ? blas->stream : stream_of(nullptr);
    // Its own workspace is memory that a capture takes for itself: recorded products would share it with later ones.
    if (stream->capture && !blas->workspace) return status(refused_while_capturing("a product in cuBLAS's own workspace"));
    float by = *(const float *)alpha, keep = *(const float *)beta;
    return status(ask(stream, {CU_GRAPH_NODE_TYPE_KERNEL, [=] {
                                   for (int i = 0; i < batch; ++i) multiply(first, second, out, i, by, keep);
                               }}));
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const double *,
                                         const double *, int, long long, const double *, int, long long, const double *,
                                         double *, int, long long, int) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t) {
    if (!bound()) return CURAND_STATUS_INITIALIZATION_FAILED;
    *generator = reinterpret_cast<curandGenerator_t>(1);
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t) { return CURAND_STATUS_SUCCESS; }

} // extern "C"
