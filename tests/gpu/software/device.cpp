// The device itself: memory, streams, captures.
#include "device.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

namespace software {

namespace {

// What stands behind every array: written over by what writes beyond it.
constexpr size_t FENCE = 512;
constexpr unsigned char FENCED = 0xa5;
// Not a number, in every type: what nobody has written.
constexpr unsigned char UNWRITTEN = 0xff;
// Steps that may wait in a stream before it does the first of them.
constexpr size_t MOST_WAITING = 4096;

CUresult answer = CUDA_SUCCESS;
std::map<CUdeviceptr, Block> blocks;
std::map<uintptr_t, Pinned> pins;
std::set<Stream *> streams;
uint64_t captures = 0;
thread_local CUcontext current = nullptr;
thread_local Stream *captured = nullptr;

size_t from_environment(const char *name, size_t otherwise) {
    const char *value = std::getenv(name);
    return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

unsigned char *bytes_of(CUdeviceptr place) { return reinterpret_cast<unsigned char *>(place); }

void check_fence(CUdeviceptr place, size_t bytes) {
    for (size_t i = 0; i < FENCE; ++i)
        if (bytes_of(place)[bytes + i] != FENCED) {
            broken(CUDA_ERROR_ILLEGAL_ADDRESS, "something wrote %zu bytes behind an array of %zu bytes", i, bytes);
            return;
        }
}

CUdeviceptr take(size_t bytes, uint64_t graph) {
    size_t whole = (bytes + 511) / 512 * 512;
    void *memory = std::aligned_alloc(512, whole + FENCE);
    if (!memory) return 0;
    std::memset(memory, UNWRITTEN, bytes);
    std::memset((unsigned char *)memory + bytes, FENCED, whole + FENCE - bytes);
    blocks[(CUdeviceptr)memory] = {bytes, graph, true};
    return (CUdeviceptr)memory;
}

Block *block_at(CUdeviceptr place) {
    auto after = blocks.upper_bound(place);
    if (after == blocks.begin()) return nullptr;
    auto &[start, block] = *std::prev(after);
    return place < start + std::max<size_t>(block.bytes, 1) ? &block : nullptr;
}

CUresult allocate_captured(CUdeviceptr *place, size_t bytes, Capture &capture) {
    CUdeviceptr taken = *place = take(bytes, capture.id);
    if (!taken) return CUDA_ERROR_OUT_OF_MEMORY;
    Graph &graph = *capture.graph;
    capture.bytes += bytes;
    graph.most_bytes = std::max(graph.most_bytes, capture.bytes);
    graph.arrays.push_back(taken);
    ++graph.kept;
    graph.steps.push_back({CU_GRAPH_NODE_TYPE_MEM_ALLOC, [=] { std::memset(bytes_of(taken), UNWRITTEN, bytes); }});
    return CUDA_SUCCESS;
}

CUresult give_back_captured(CUdeviceptr place, Block &block, Capture &capture) {
    if (block.graph != capture.id) {
        capture.broken = true;
        fprintf(stderr, "software device: a capture gives back an array that was there before it\n");
        return CUDA_ERROR_INVALID_VALUE;
    }
    block.live = false;
    capture.bytes -= block.bytes;
    --capture.graph->kept;
    size_t bytes = block.bytes;
    capture.graph->steps.push_back({CU_GRAPH_NODE_TYPE_MEM_FREE, [=] {
                                        check_fence(place, bytes);
                                        std::memset(bytes_of(place), UNWRITTEN, bytes);
                                    }});
    return CUDA_SUCCESS;
}

} // namespace

std::recursive_mutex &lock() {
    static std::recursive_mutex one;
    return one;
}

Memory &memory() {
    static Memory one{from_environment("SOFTWARE_MEMORY", size_t(4) << 30)};
    return one;
}

CUresult broken(CUresult error, const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "software device: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, "\n");
    va_end(values);
    if (answer == CUDA_SUCCESS) answer = error;
    return error;
}

CUresult state() { return answer; }

Asked &asked() {
    static Asked all;
    return all;
}

Asked::~Asked() {
    if (!std::getenv("SOFTWARE_REPORT")) return;
    fprintf(stderr, "software device: %zu kernels, products and convolutions, %zu captures, %zu replays, %zu copies, %zu waits\n", kernels,
            captures, replays, copies, waits);
}

bool bound() { return current != nullptr; }
void bind(CUcontext context) { current = context; }
CUcontext context() { return current; }

Stream *stream_of(CUstream stream) {
    static Stream first;
    Stream *found = stream ? reinterpret_cast<Stream *>(stream) : &first;
    streams.insert(found);
    return found;
}

CUresult allocate(CUdeviceptr *place, size_t bytes, Stream *stream) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) return allocate_captured(place, bytes, *stream->capture);
    Memory &m = memory();
    size_t reserved = std::max(m.reserved, m.used + bytes);
    if (reserved + m.graph_reserved > m.all) return CUDA_ERROR_OUT_OF_MEMORY;
    *place = take(bytes, 0);
    if (!*place) return CUDA_ERROR_OUT_OF_MEMORY;
    m.used += bytes;
    m.reserved = reserved;
    m.most_used = std::max(m.most_used, m.used);
    m.most_reserved = std::max(m.most_reserved, m.reserved);
    return CUDA_SUCCESS;
}

CUresult give_back(CUdeviceptr place, Stream *stream) {
    auto found = blocks.find(place);
    if (found == blocks.end() || !found->second.live)
        return broken(CUDA_ERROR_INVALID_VALUE, "what is given back is no array, or has been given back before");
    if (stream->capture) return give_back_captured(place, found->second, *stream->capture);
    size_t bytes = found->second.bytes;
    if (found->second.graph) return broken(CUDA_ERROR_INVALID_VALUE, "an array of a graph is given back outside it");
    found->second.live = false;
    memory().used -= bytes;
    return ask(stream, {CU_GRAPH_NODE_TYPE_MEM_FREE, [=] {
                            check_fence(place, bytes);
                            std::memset(bytes_of(place), UNWRITTEN, bytes);
                            blocks.erase(place);
                            std::free(bytes_of(place));
                        }});
}

bool valid(CUdeviceptr place, size_t bytes, const char *what) {
    if (bytes == 0) return true;
    Block *block = block_at(place), *last = block_at(place + bytes - 1);
    if (block && block == last && block->live) return true;
    broken(CUDA_ERROR_ILLEGAL_ADDRESS, "%s: %zu bytes at %llx are %s", what, bytes, place,
           !block ? "in no array" : !block->live ? "in an array that has been given back" : "more than their array holds");
    return false;
}

Graph::~Graph() {
    for (CUdeviceptr place : arrays) {
        blocks.erase(place);
        std::free(bytes_of(place));
    }
}

CUresult ask(Stream *stream, Step step) {
    asked().kernels += step.kind == CU_GRAPH_NODE_TYPE_KERNEL;
    asked().copies += step.kind == CU_GRAPH_NODE_TYPE_MEMCPY;
    if (stream->capture) {
        stream->capture->graph->steps.push_back(std::move(step));
        return CUDA_SUCCESS;
    }
    if (stream == stream_of(nullptr) && captured) return refused_while_capturing("work on the default stream");
    if (answer != CUDA_SUCCESS) return answer;
    stream->waiting.push_back(std::move(step));
    ++stream->asked;
    if (stream->waiting.size() > MOST_WAITING) run(stream, stream->done + 1);
    return CUDA_SUCCESS;
}

void run(Stream *stream, uint64_t until) {
    while (!stream->waiting.empty() && stream->done < until) {
        Step step = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        step.work();
        ++stream->done;
    }
}

void wait(Stream *stream, uint64_t until) {
    asked().waits += !stream->waiting.empty() && stream->done < until;
    run(stream, until);
}

void run_all() {
    for (Stream *stream : streams) run(stream);
}

bool capturing() { return captured != nullptr; }

CUresult refused_while_capturing(const char *call) {
    if (!captured) return CUDA_SUCCESS;
    captured->capture->broken = true;
    fprintf(stderr, "software device: %s while a stream is captured\n", call);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

void pin(void *memory, size_t bytes) { pins[(uintptr_t)memory] = {bytes}; }

CUresult unpin(void *memory) {
    auto found = pins.find((uintptr_t)memory);
    if (found == pins.end()) return CUDA_ERROR_INVALID_VALUE;
    if (found->second.copies > 0)
        broken(CUDA_ERROR_ILLEGAL_ADDRESS, "pinned memory goes while %zu copies wait for it", found->second.copies);
    pins.erase(found);
    return CUDA_SUCCESS;
}

Pinned *pinned(const void *memory, size_t bytes) {
    auto after = pins.upper_bound((uintptr_t)memory);
    if (after == pins.begin()) return nullptr;
    auto &[start, block] = *std::prev(after);
    return (uintptr_t)memory + bytes <= start + block.bytes ? &block : nullptr;
}

} // namespace software

using namespace software;

extern "C" {

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!(flags & CU_STREAM_NON_BLOCKING)) fprintf(stderr, "software device: blocking streams are taken for others\n");
    *stream = reinterpret_cast<CUstream>(new Stream);
    stream_of(*stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream) {
    LOCKED;
    Stream *found = stream_of(stream);
    run(found);
    streams.erase(found);
    // Events go on pointing to it.
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode) {
    LOCKED;
    Stream *found = stream_of(stream);
    if (!stream || found->capture) return CUDA_ERROR_ILLEGAL_STATE;
    found->capture = std::make_unique<Capture>();
    found->capture->id = ++captures;
    captured = found;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    LOCKED;
    *graph = nullptr;
    Stream *found = stream_of(stream);
    if (!found->capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (captured != found) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    std::unique_ptr<Capture> capture = std::move(found->capture);
    captured = nullptr;
    ++asked().captures;
    if (capture->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = reinterpret_cast<CUgraph>(new std::shared_ptr<Graph>(capture->graph));
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    LOCKED;
    *status = stream_of(stream)->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
    LOCKED;
    if (stream_of(stream)->capture) return refused_while_capturing("cuStreamSynchronize");
    wait(stream_of(stream));
    return state();
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    LOCKED;
    Event *awaited = reinterpret_cast<Event *>(event);
    Stream *other = awaited->stream;
    uint64_t after = awaited->after;
    if (!other || other == stream_of(stream)) return state();
    return ask(stream_of(stream), {CU_GRAPH_NODE_TYPE_EMPTY, [=] { run(other, after); }});
}

CUresult cuEventCreate(CUevent *event, unsigned) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    *event = reinterpret_cast<CUevent>(new Event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    LOCKED;
    delete reinterpret_cast<Event *>(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    LOCKED;
    Stream *found = stream_of(stream);
    *reinterpret_cast<Event *>(event) = {found, found->asked, found->capture != nullptr};
    return state();
}

// Asking is what makes time pass: the device does one step.
CUresult cuEventQuery(CUevent event) {
    LOCKED;
    Event *awaited = reinterpret_cast<Event *>(event);
    if (awaited->captured) return refused_while_capturing("cuEventQuery of a captured event");
    if (!awaited->passed()) run(awaited->stream, awaited->stream->done + 1);
    return awaited->passed() ? state() : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event) {
    LOCKED;
    Event *awaited = reinterpret_cast<Event *>(event);
    if (awaited->captured) return refused_while_capturing("cuEventSynchronize of a captured event");
    if (!awaited->passed()) wait(awaited->stream, awaited->after);
    return state();
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long) {
    LOCKED;
    *made = reinterpret_cast<CUgraphExec>(new std::shared_ptr<Graph>(*reinterpret_cast<std::shared_ptr<Graph> *>(graph)));
    return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
    LOCKED;
    auto &steps = (*reinterpret_cast<std::shared_ptr<Graph> *>(graph))->steps;
    if (nodes)
        for (size_t i = 0; i < std::min(*count, steps.size()); ++i) nodes[i] = reinterpret_cast<CUgraphNode>(&steps[i]);
    *count = steps.size();
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *kind) {
    *kind = reinterpret_cast<Step *>(node)->kind;
    return CUDA_SUCCESS;
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D *copy) {
    std::memset(copy, 0, sizeof *copy);
    copy->srcMemoryType = reinterpret_cast<Step *>(node)->source;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
    LOCKED;
    std::shared_ptr<Graph> run = *reinterpret_cast<std::shared_ptr<Graph> *>(graph);
    if (stream_of(stream)->capture) return refused_while_capturing("cuGraphLaunch");
    if (run->kept > 0 && run->runs > 0) return CUDA_ERROR_INVALID_VALUE;
    ++run->runs;
    ++asked().replays;
    Memory &m = memory();
    size_t reserved = std::max(m.graph_reserved, run->most_bytes);
    if (m.reserved + reserved > m.all) return CUDA_ERROR_OUT_OF_MEMORY;
    m.graph_reserved = reserved;
    m.graph_most_reserved = std::max(m.graph_most_reserved, reserved);
    m.graph_most_used = std::max(m.graph_most_used, run->most_bytes);
    return ask(stream_of(stream), {CU_GRAPH_NODE_TYPE_GRAPH, [run] {
                                       for (Step &step : run->steps) step.work();
                                   }});
}

CUresult cuGraphExecDestroy(CUgraphExec graph) {
    LOCKED;
    delete reinterpret_cast<std::shared_ptr<Graph> *>(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
    LOCKED;
    delete reinterpret_cast<std::shared_ptr<Graph> *>(graph);
    return CUDA_SUCCESS;
}

} // extern "C"
