// A CUDA device in software: what its driver, cuDNN and cuBLAS share.
//
// Streams are lazy: work waits in them until somebody waits for it, so that what is read too early, or overwritten while a
// copy has yet to read it, comes out wrong here as it would on a device. Every mistake is printed, and the device then
// answers with errors, as CUDA does after an illegal access.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace software {

using Work = std::function<void()>;

// One thing that a stream does, or that a graph holds.
struct Step {
    CUgraphNodeType kind;
    Work work;
    // Of a copy: where its values come from.
    CUmemorytype source = CU_MEMORYTYPE_DEVICE;
};

// An array of the device.
struct Block {
    size_t bytes;
    // Of the capture whose graph owns it; 0 of the pool's.
    uint64_t graph = 0;
    bool live = true;
};

struct Stream;

// What has been captured. Its arrays are at hand whenever it runs, at the same places.
struct Graph {
    std::vector<Step> steps;
    std::vector<CUdeviceptr> arrays;
    size_t most_bytes = 0;
    // Arrays that it does not give back itself: it cannot run again before somebody else does.
    size_t kept = 0;
    size_t runs = 0;
    ~Graph();
};

struct Capture {
    uint64_t id;
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    size_t bytes = 0;
    bool broken = false;
};

struct Stream {
    std::deque<Step> waiting;
    // How many steps have been asked for, and how many done.
    uint64_t asked = 0, done = 0;
    std::unique_ptr<Capture> capture;
};

struct Event {
    Stream *stream = nullptr;
    uint64_t after = 0;
    bool captured = false;

    bool passed() const { return !stream || stream->done >= after; }
};

// Memory of the device, in bytes.
struct Memory {
    size_t all;
    size_t used = 0, most_used = 0, reserved = 0, most_reserved = 0;
    // The same of graphs.
    size_t graph_used = 0, graph_most_used = 0, graph_reserved = 0, graph_most_reserved = 0;

    size_t free() const { return all - reserved - graph_reserved; }
};

// What has been asked for. Printed at the end where SOFTWARE_REPORT is set.
struct Asked {
    size_t kernels = 0, captures = 0, replays = 0, copies = 0, waits = 0;
    ~Asked();
};
Asked &asked();

// Held by every call.
std::recursive_mutex &lock();
#define LOCKED std::lock_guard<std::recursive_mutex> locked(software::lock())

Memory &memory();
Stream *stream_of(CUstream stream);

// Prints a mistake; from now on the device answers with `error`.
CUresult broken(CUresult error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// What the device answers: success, or the error it is broken by.
CUresult state();

// Whether this thread has a context.
bool bound();
void bind(CUcontext context);
CUcontext context();

// An array; stream-ordered.
CUresult allocate(CUdeviceptr *place, size_t bytes, Stream *stream);
CUresult give_back(CUdeviceptr place, Stream *stream);
// Whether all of `bytes` bytes from `place` on lie in one array of the device; prints where they do not.
bool valid(CUdeviceptr place, size_t bytes, const char *what);

// Puts a step at a stream's end, or into what is captured from it.
CUresult ask(Stream *stream, Step step);
// Does what waits in a stream, as far as step `until`.
void run(Stream *stream, uint64_t until = UINT64_MAX);
void run_all();
// The same, where the host waits for it.
void wait(Stream *stream, uint64_t until = UINT64_MAX);
// A call that a capture of this thread does not bear; breaks it.
CUresult refused_while_capturing(const char *call);
bool capturing();

// Pinned memory that copies have yet to read or write.
void pin(void *memory, size_t bytes);
CUresult unpin(void *memory);
// The pinned block that `memory` lies in; null if it is not pinned.
struct Pinned {
    size_t bytes, copies = 0;
};
Pinned *pinned(const void *memory, size_t bytes);

} // namespace software
