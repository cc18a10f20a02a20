// The calls of CUDA's driver that have no more to do than to ask the device.
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace software;

namespace {

constexpr char NAME[] = "Software device";

int count_devices() {
    const char *count = std::getenv("SOFTWARE_DEVICES");
    return count ? std::atoi(count) : 1;
}

bool exists(CUdevice device) { return device >= 0 && device < count_devices(); }

unsigned char *at(CUdeviceptr place) { return reinterpret_cast<unsigned char *>(place); }

// What an error means, as `nvidia-smi`'s library says it.
const char *meaning(CUresult error) {
    switch (error) {
        case CUDA_SUCCESS: return "no error";
        case CUDA_ERROR_INVALID_VALUE: return "invalid argument";
        case CUDA_ERROR_OUT_OF_MEMORY: return "out of memory";
        case CUDA_ERROR_NO_DEVICE: return "no CUDA-capable device is detected";
        case CUDA_ERROR_INVALID_DEVICE: return "invalid device ordinal";
        case CUDA_ERROR_INVALID_CONTEXT: return "invalid device context";
        case CUDA_ERROR_ILLEGAL_ADDRESS: return "an illegal memory access was encountered";
        case CUDA_ERROR_NOT_FOUND: return "named symbol not found";
        case CUDA_ERROR_NOT_READY: return "device not ready";
        case CUDA_ERROR_NOT_SUPPORTED: return "operation not supported";
        case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
        case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
            return "operation failed due to a previous error during capture";
        default: return "unknown error";
    }
}

// A copy between the host's memory and the device's: of pinned memory when it is its turn, of other memory at once.
CUresult copy(unsigned char *to, const unsigned char *from, size_t bytes, const void *host, bool to_device, Stream *stream) {
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    Pinned *block = pinned(host, bytes);
    CUmemorytype source = to_device ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    if (block) {
        bool counts = !stream->capture;
        if (counts) ++block->copies;
        return ask(stream, {CU_GRAPH_NODE_TYPE_MEMCPY, [=] {
                                std::memcpy(to, from, bytes);
                                if (counts) --block->copies;
                            },
                            source});
    }
    if (to_device) {
        auto values = std::make_shared<std::vector<unsigned char>>(from, from + bytes);
        return ask(stream, {CU_GRAPH_NODE_TYPE_MEMCPY, [=] { std::memcpy(to, values->data(), bytes); }, source});
    }
    if (stream->capture) return refused_while_capturing("a copy to memory that is not pinned");
    wait(stream);
    std::memcpy(to, from, bytes);
    return state();
}

} // namespace

extern "C" {

CUresult cuInit(unsigned) { return count_devices() > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }

CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = meaning(error);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    *count = count_devices();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int index) {
    *device = index;
    return exists(index) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int most, CUdevice) {
    snprintf(name, most, "%s", NAME);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    std::memset(uuid, 0, sizeof *uuid);
    uuid->bytes[15] = (char)device;
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    *bytes = memory().all;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
        default: return broken(CUDA_ERROR_NOT_SUPPORTED, "it knows no attribute %d of devices", (int)attribute);
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    *context = reinterpret_cast<CUcontext>((uintptr_t)device + 1);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxDestroy(CUcontext) { return CUDA_SUCCESS; }

CUresult cuCtxGetCurrent(CUcontext *now) {
    *now = context();
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext next) {
    bind(next);
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    LOCKED;
    if (capturing()) return refused_while_capturing("cuCtxSynchronize");
    run_all();
    return state();
}

CUresult cuMemAllocAsync(CUdeviceptr *place, size_t bytes, CUstream stream) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    return allocate(place, bytes, stream_of(stream));
}

CUresult cuMemFreeAsync(CUdeviceptr place, CUstream stream) {
    LOCKED;
    if (!bound()) {
        fprintf(stderr, "software device: a thread without a context gives memory back\n");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return give_back(place, stream_of(stream));
}

CUresult cuMemAlloc(CUdeviceptr *, size_t) {
    return broken(CUDA_ERROR_NOT_SUPPORTED, "memory that waits for the whole device is asked for");
}

CUresult cuMemFree(CUdeviceptr) {
    return broken(CUDA_ERROR_NOT_SUPPORTED, "memory is given back that waits for the whole device");
}

CUresult cuMemGetInfo(size_t *free, size_t *all) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    *free = memory().free();
    *all = memory().all;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
    *pool = reinterpret_cast<CUmemoryPool>((uintptr_t)device + 1);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    LOCKED;
    Memory &m = memory();
    auto *number = (cuuint64_t *)value;
    switch (attribute) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *number = m.used; break;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *number = m.most_used; break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: *number = m.reserved; break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: *number = m.most_reserved; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    LOCKED;
    Memory &m = memory();
    bool zero = *(cuuint64_t *)value == 0;
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: m.most_used = m.used; break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: m.most_reserved = m.reserved; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return zero ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolTrimTo(CUmemoryPool, size_t keep) {
    LOCKED;
    if (capturing()) return refused_while_capturing("cuMemPoolTrimTo");
    Memory &m = memory();
    m.reserved = std::max(m.used, std::min(m.reserved, keep));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute attribute, void *value) {
    LOCKED;
    Memory &m = memory();
    auto *number = (cuuint64_t *)value;
    switch (attribute) {
        case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT: *number = m.graph_used; break;
        case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH: *number = m.graph_most_used; break;
        case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT: *number = m.graph_reserved; break;
        case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH: *number = m.graph_most_reserved; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice) {
    LOCKED;
    run_all();
    memory().graph_reserved = 0;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    if (capturing()) return refused_while_capturing("cuMemHostAlloc");
    *memory = std::malloc(bytes);
    if (!*memory) return CUDA_ERROR_OUT_OF_MEMORY;
    pin(*memory, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *memory) {
    LOCKED;
    CUresult result = unpin(memory);
    if (result == CUDA_SUCCESS) std::free(memory);
    return result;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    LOCKED;
    if (!valid(to, bytes, "a copy to the device")) return state();
    return copy(at(to), (const unsigned char *)from, bytes, from, true, stream_of(stream));
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    LOCKED;
    if (!valid(from, bytes, "a copy to the host")) return state();
    return copy((unsigned char *)to, at(from), bytes, to, false, stream_of(stream));
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!valid(to, bytes, "a copy's target") || !valid(from, bytes, "a copy's source")) return state();
    return ask(stream_of(stream), {CU_GRAPH_NODE_TYPE_MEMCPY, [=] { std::memmove(at(to), at(from), bytes); }});
}

CUresult cuMemcpyPeerAsync(CUdeviceptr, CUcontext, CUdeviceptr, CUcontext, size_t, CUstream) {
    return broken(CUDA_ERROR_NOT_SUPPORTED, "a copy from one device to another");
}

CUresult cuMemsetD8Async(CUdeviceptr place, unsigned char value, size_t count, CUstream stream) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!valid(place, count, "filling")) return state();
    return ask(stream_of(stream), {CU_GRAPH_NODE_TYPE_MEMSET, [=] { std::memset(at(place), value, count); }});
}

} // extern "C"
