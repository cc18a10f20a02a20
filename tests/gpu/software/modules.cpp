// Kernels: PTX says what a kernel takes and how many threads it bears; what it does, its source says, compiled for the host.
#include "candle.h"
#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <regex>

using namespace software;

namespace {

using Emulate = int (*)(const char *, const unsigned *, const unsigned *, unsigned, void **);
using Parameters = int (*)(const char *, unsigned long long *);

// What a block may have without being asked about: that of every device.
constexpr size_t SHARED = 48 << 10;
constexpr unsigned THREADS = 1024, BLOCKS_Y = 65535;

struct Kernel {
    std::string name;
    // Bytes of each parameter.
    std::vector<size_t> parameters;
    unsigned most_threads = THREADS;
    // Bytes of static shared memory.
    size_t shared = 0;
    // What it does; empty where that is not known here.
    std::function<void(const unsigned *blocks, const unsigned *threads, unsigned shared, void **arguments)> carry_out;
    // Which parameters are addresses.
    unsigned long long pointers = 0;
    bool candles = false, launched = false;
};

struct Module {
    std::map<std::string, Kernel> kernels;
};

size_t bytes_of(const std::string &type) { return std::stoul(type.substr(1)) / 8; }

// The source's kernels of one type, built beside this library.
void *source(const char *type) {
    static std::map<std::string, void *> open;
    auto found = open.find(type);
    if (found != open.end()) return found->second;
    Dl_info here;
    dladdr((void *)&source, &here);
    if (type != std::string("f32") && type != std::string("bf16") && type != std::string("f16")) return nullptr;
    std::string file = here.dli_fname;
    file = file.substr(0, file.rfind('/') + 1) + "kernels_" + type + ".so";
    void *library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "software device: %s\n", dlerror());
    return open[type] = library;
}

// Whether the kernel is one of this program.
bool find_source(Kernel &kernel) {
    void *library = source(kernel.name.substr(kernel.name.rfind('_') + 1).c_str());
    if (!library) return false;
    auto parameters = (Parameters)dlsym(library, "parameters");
    if (!parameters || parameters(kernel.name.c_str(), &kernel.pointers) != (int)kernel.parameters.size()) return false;
    auto emulate = (Emulate)dlsym(library, "emulate");
    kernel.carry_out = [emulate, name = kernel.name](auto blocks, auto threads, auto shared, auto arguments) {
        emulate(name.c_str(), blocks, threads, shared, arguments);
    };
    return true;
}

void find_in_candle(Kernel &kernel) {
    CandleKernel found = candle_kernel(kernel.name);
    kernel.pointers = 0;
    kernel.candles = true;
    kernel.carry_out = nullptr;
    if (found) kernel.carry_out = [found](auto, auto, auto, auto arguments) { found(arguments); };
}

Kernel kernel(const std::string &name, const std::string &parameters, const std::string &limits, const std::string &body) {
    Kernel made;
    made.name = name;
    static const std::regex parameter(R"(\.param\s+(?:\.align\s+\d+\s+)?\.([bufs]\d+)\s+(?:[^,\[\n]*)(?:\[(\d+)\])?)");
    for (std::sregex_iterator i(parameters.begin(), parameters.end(), parameter), end; i != end; ++i)
        made.parameters.push_back(bytes_of((*i)[1]) * ((*i)[2].matched ? std::stoul((*i)[2]) : 1));
    std::smatch found;
    static const std::regex threads(R"(\.(?:max|req)ntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?)");
    if (std::regex_search(limits, found, threads)) {
        made.most_threads = 1;
        for (size_t i = 1; i < found.size(); ++i) made.most_threads *= found[i].matched ? std::stoul(found[i]) : 1;
    }
    static const std::regex shared(R"(\n\s*\.shared\s+\.align\s+\d+\s+\.([bufs]\d+)\s+[^;\[]*\[(\d+)\])");
    for (std::sregex_iterator i(body.begin(), body.end(), shared), end; i != end; ++i)
        made.shared += bytes_of((*i)[1]) * std::stoul((*i)[2]);
    return made;
}

// A container of several versions of the same code, that for every device among them.
struct Container {
    uint32_t magic;
    uint16_t version, head;
    uint64_t bytes;
};

// The PTX of an image; empty where it has none.
std::string ptx_of(const void *image) {
    auto *text = (const char *)image;
    auto *container = (const Container *)image;
    if (container->magic != 0xba55ed50) return text;
    std::string all(text, container->head + container->bytes);
    size_t start = all.find(".version ");
    return start == std::string::npos ? "" : all.c_str() + start;
}

Module *read(const std::string &ptx) {
    auto *module = new Module;
    const std::string entry = ".entry ";
    for (size_t at = ptx.find(entry); at != std::string::npos; at = ptx.find(entry, at + 1)) {
        size_t open = ptx.find('(', at), close = ptx.find(')', open), body = ptx.find('{', close);
        size_t end = std::min(ptx.find("\n}", body), ptx.size());
        std::string name = ptx.substr(at + entry.size(), open - at - entry.size());
        Kernel made = kernel(name, ptx.substr(open, close - open), ptx.substr(close, body - close), ptx.substr(body, end - body));
        module->kernels[name] = made;
    }
    // Candle has kernels of the same names.
    bool ours = std::all_of(module->kernels.begin(), module->kernels.end(), [](auto &kernel) { return find_source(kernel.second); });
    for (auto &[name, kernel] : module->kernels)
        if (!ours) find_in_candle(kernel);
    return module;
}

CUresult check(const Kernel &kernel, const unsigned blocks[3], const unsigned threads[3], unsigned shared, void **arguments) {
    const char *name = kernel.name.c_str();
    if (!kernel.carry_out) return broken(CUDA_ERROR_NOT_SUPPORTED, "the kernel %s is not known here", name);
    size_t all = (size_t)threads[0] * threads[1] * threads[2];
    if (all == 0 || !blocks[0] || !blocks[1] || !blocks[2] || blocks[1] > BLOCKS_Y || blocks[2] > BLOCKS_Y)
        return broken(CUDA_ERROR_INVALID_VALUE, "%s: %u x %u x %u blocks", name, blocks[0], blocks[1], blocks[2]);
    if (all > kernel.most_threads || threads[2] != 1)
        return broken(CUDA_ERROR_INVALID_VALUE, "%s: blocks of %zu threads, it bears %u", name, all, kernel.most_threads);
    if (kernel.shared + shared > SHARED)
        return broken(CUDA_ERROR_INVALID_VALUE, "%s: %zu + %u bytes of shared memory", name, kernel.shared, shared);
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
        auto place = *(CUdeviceptr *)arguments[i];
        if ((kernel.pointers >> i & 1) && place && !valid(place, 1, name)) return state();
    }
    return CUDA_SUCCESS;
}

} // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    if (capturing()) return refused_while_capturing("cuModuleLoadData");
    *module = reinterpret_cast<CUmodule>(read(ptx_of(image)));
    return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule *, const char *) { return broken(CUDA_ERROR_NOT_SUPPORTED, "kernels of a file"); }

// Functions go on pointing to it.
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    LOCKED;
    auto &kernels = reinterpret_cast<Module *>(module)->kernels;
    auto found = kernels.find(name);
    if (found == kernels.end()) return CUDA_ERROR_NOT_FOUND;
    *function = reinterpret_cast<CUfunction>(&found->second);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned width, unsigned height,
                        unsigned depth, unsigned shared, CUstream stream, void **arguments, void **) {
    LOCKED;
    if (!bound()) return CUDA_ERROR_INVALID_CONTEXT;
    Kernel *kernel = reinterpret_cast<Kernel *>(function);
    if (kernel->candles && !kernel->launched && std::getenv("SOFTWARE_REPORT"))
        fprintf(stderr, "software device: Candle's kernel %s\n", kernel->name.c_str());
    kernel->launched = true;
    unsigned blocks[] = {x, y, z}, threads[] = {width, height, depth};
    CUresult checked = check(*kernel, blocks, threads, shared, arguments);
    if (checked != CUDA_SUCCESS) return checked;
    // Arguments are taken when a kernel is launched, not when it runs.
    auto values = std::make_shared<std::vector<std::vector<unsigned char>>>();
    for (size_t i = 0; i < kernel->parameters.size(); ++i) {
        auto *value = (unsigned char *)arguments[i];
        values->emplace_back(value, value + kernel->parameters[i]);
    }
    return ask(stream_of(stream), {CU_GRAPH_NODE_TYPE_KERNEL, [=] {
                                       std::vector<void *> places;
                                       for (auto &value : *values) places.push_back(value.data());
                                       unsigned grid[] = {x, y, z}, block[] = {width, height};
                                       kernel->carry_out(grid, block, shared, places.data());
                                   }});
}

} // extern "C"
