// A double of the NVIDIA driver: a libcuda.so.1 for the real cuda-python to run on.
//
// "Device" memory is host memory between canaries; kernels are the host-compiled kernels.cu. Streams
// queue their work and do it only when something waits for it (cuEventSynchronize and the like), in the
// order that exposes a missing dependency: nothing runs that the awaited event does not depend on. With
// emu_eager_copies(1) uploads run at once instead, which exposes a buffer that is written too early.
// Any call can be made to fail, and everything made is counted. What a real driver does beyond that
// (timing, concurrency, its own limits on graph capture) this cannot show.
#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int Result;
typedef uint64_t Address;
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, STUB = 34, NO_DEVICE = 100, INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905,
};

// ---- State ----------------------------------------------------------------------------------------

struct Mark {  // one recording of an event
    bool done = false;
    double at_ms = 0;
    struct Stream* stream = nullptr;
};
struct Event {
    std::shared_ptr<Mark> latest;
};
struct Work {
    std::string name;
    std::function<Result()> run;            // for kernels, copies, callbacks
    std::shared_ptr<Mark> mark, awaited;    // for records and waits
    Event* external = nullptr;              // a record inside a graph: a new mark at every launch
};
struct Stream {
    std::list<Work> queue;
    bool capturing = false, invalidated = false;
    std::vector<Work> captured;
};
struct Graph {
    std::vector<Work> work;
};
struct Function {
    std::string name;
    void (*run)(const unsigned*, const unsigned*, const void*);
    size_t args;
};
struct Block {
    std::unique_ptr<unsigned char[]> bytes;
    size_t size;
    unsigned flags;
};
struct Injection {
    int countdown;
    Result code;
};

static int present = 1, integrated = 0, eager_copies = 0, corruptions = 0, lost = 0;
static int capability_major = 8, capability_minor = 7;
static std::string device_name = "Emulated Orin";
static size_t memory_limit = size_t(1) << 40;
static void* kernels = nullptr;
static std::map<std::string, Injection> injections;
static std::map<std::string, int> calls;
static std::map<Address, Block> device_memory, host_memory;
static std::set<Stream*> streams;
static std::set<Event*> events;
static std::set<Graph*> graphs, runnables;
static std::set<Function*> functions;
static int modules = 0, contexts = 0;
static thread_local int current = 0, capturing_here = 0;
static const size_t CANARY = 64;

static bool fails_forever(Result code) { return code == 214 || (code >= 700 && code <= 719); }

// Every call and every piece of work passes here: counted, and failed if a test said so.
static Result enter(const char* name) {
    ++calls[name];
    if (lost) return lost;
    auto found = injections.find(name);
    if (found == injections.end() || --found->second.countdown > 0) return OK;
    const Result code = found->second.code;
    injections.erase(found);
    if (fails_forever(code)) lost = code;
    return code;
}
#define ENTER()                                         \
    if (const Result code_ = enter(__func__)) return code_
#define ENTER_CONTEXT() \
    ENTER();            \
    if (!current) return INVALID_CONTEXT

static double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

// ---- Running the queues ---------------------------------------------------------------------------

static Result run_until(Stream* stream, const Mark* until);

static Result run_first(Stream* stream) {
    Work work = stream->queue.front();
    stream->queue.pop_front();
    if (work.awaited && !work.awaited->done)
        if (const Result code = run_until(work.awaited->stream, work.awaited.get())) return code;
    if (work.run) {
        if (const Result code = enter(("run " + work.name).c_str())) return code;
        if (const Result code = work.run()) return code;
    }
    if (work.mark) work.mark->done = true, work.mark->at_ms = now_ms();
    return OK;
}
static Result run_until(Stream* stream, const Mark* until) {
    while (!stream->queue.empty() && !(until && until->done))
        if (const Result code = run_first(stream)) return code;
    return OK;
}
static Result run_all() {
    for (Stream* stream : streams)
        if (const Result code = run_until(stream, nullptr)) return code;
    return OK;
}
static Result put(Stream* stream, Work work) {
    if (!streams.count(stream)) return INVALID_HANDLE;
    if (stream->capturing) {
        stream->captured.push_back(std::move(work));
        return OK;
    }
    const bool at_once = eager_copies && stream->queue.empty() && work.name == "cuMemcpyHtoDAsync_v2";
    stream->queue.push_back(std::move(work));
    return at_once ? run_first(stream) : Result(OK);
}
// What may not be done by a thread that captures.
static Result not_while_capturing() {
    if (!capturing_here) return OK;
    for (Stream* stream : streams)
        if (stream->capturing) stream->invalidated = true;
    return CAPTURE_UNSUPPORTED;
}

// ---- For the tests --------------------------------------------------------------------------------

API void emu_present(int value) { present = value; }
API void emu_integrated(int value) { integrated = value; }
API void emu_eager_copies(int value) { eager_copies = value; }
API void emu_memory_limit(size_t bytes) { memory_limit = bytes; }
API void emu_device(const char* name, int major, int minor) {
    device_name = name, capability_major = major, capability_minor = minor;
}
API void emu_kernels(const char* path) { kernels = dlopen(path, RTLD_NOW); }
API void emu_fail(const char* name, int nth, int code) { injections[name] = {nth, code}; }
API int emu_calls(const char* name) { return calls[name]; }
API void emu_forget() {  // failures and counts, as a new process would
    injections.clear(), calls.clear(), lost = 0, current = 0;
    eager_copies = integrated = 0, memory_limit = size_t(1) << 40;
}
API int emu_live() {
    return device_memory.size() + host_memory.size() + streams.size() + events.size() + graphs.size() +
           runnables.size() + modules + contexts;
}
API int emu_is_capturing(Stream* stream) { return streams.count(stream) && stream->capturing; }
API int emu_corruptions() { return corruptions; }
API int emu_pending() { return injections.size(); }
// The names of everything called or run so far, one a line.
API const char* emu_called() {
    static std::string names;
    names.clear();
    for (const auto& [name, count] : calls) names += name + "\n";
    return names.c_str();
}

// ---- Device and context ---------------------------------------------------------------------------

API Result cuInit(unsigned) {
    ENTER();
    return present ? OK : NO_DEVICE;
}
API Result cuDriverGetVersion(int* version) {
    *version = 13000;
    return OK;
}
API Result cuGetErrorString(Result code, const char** text) {
    static char buffer[64];
    std::snprintf(buffer, sizeof buffer, "emulated error %d", code);
    *text = buffer;
    return OK;
}
API Result cuDeviceGetCount(int* count) {
    ENTER();
    *count = present;
    return OK;
}
API Result cuDeviceGet(int* device, int ordinal) {
    ENTER();
    *device = ordinal;
    return OK;
}
API Result cuDeviceGetName(char* name, int size, int) {
    ENTER();
    std::snprintf(name, size, "%s", device_name.c_str());
    return OK;
}
API Result cuDeviceTotalMem_v2(size_t* bytes, int) {
    ENTER();
    *bytes = size_t(8) << 30;
    return OK;
}
API Result cuDeviceGetAttribute(int* value, int attribute, int) {
    ENTER();
    *value = attribute == 75   ? capability_major
             : attribute == 76 ? capability_minor
             : attribute == 18 ? integrated
                               : 0;
    return OK;
}
API Result cuDevicePrimaryCtxRetain(void** context, int) {
    ENTER();
    ++contexts;
    *context = &contexts;
    return OK;
}
API Result cuDevicePrimaryCtxRelease_v2(int) {
    --contexts;
    ENTER();
    return OK;
}
API Result cuCtxSetCurrent(void* context) {
    ENTER();
    current = context != nullptr;
    return OK;
}
API Result cuModuleLoadData(void** module, const void* image) {
    ENTER_CONTEXT();
    if (std::memcmp(image, "\x7f" "ELF", 4)) return INVALID_VALUE;
    ++modules;
    *module = &modules;
    return OK;
}
API Result cuModuleUnload(void*) {
    --modules;
    for (Function* function : functions) delete function;
    functions.clear();
    ENTER();
    return OK;
}
API Result cuModuleGetFunction(void** function, void*, const char* name) {
    ENTER_CONTEXT();
    auto* entry = dlsym(kernels, (std::string(name) + "_host").c_str());
    auto* size = static_cast<size_t*>(dlsym(kernels, (std::string(name) + "_args").c_str()));
    if (!entry || !size) return NOT_FOUND;
    auto* made = new Function{name, reinterpret_cast<decltype(Function::run)>(entry), *size};
    functions.insert(made);
    *function = made;
    return OK;
}

// ---- Memory ---------------------------------------------------------------------------------------

static Address make_block(std::map<Address, Block>& where, size_t size, unsigned flags) {
    Block block{std::make_unique<unsigned char[]>(size + 256 + CANARY), size, flags};
    const Address address = (reinterpret_cast<Address>(block.bytes.get()) + 255) / 256 * 256;
    auto* bytes = reinterpret_cast<unsigned char*>(address);
    std::memset(bytes, 0xCD, size);  // as undefined as on a device
    std::memset(bytes + size, 0xA5, CANARY);
    where[address] = std::move(block);
    return address;
}
static Result free_block(std::map<Address, Block>& where, Address address) {
    auto found = where.find(address);
    if (found == where.end()) return INVALID_VALUE;
    const auto* end = reinterpret_cast<unsigned char*>(address) + found->second.size;
    for (size_t i = 0; i < CANARY; ++i)
        if (end[i] != 0xA5) {
            ++corruptions;
            break;
        }
    where.erase(found);
    return OK;
}
static bool inside(const std::map<Address, Block>& where, Address address, size_t size) {
    auto next = where.upper_bound(address);
    if (next == where.begin()) return false;
    const auto& [start, block] = *--next;
    return address - start + size <= block.size;
}
static size_t in_use() {
    size_t total = 0;
    for (const auto& [address, block] : device_memory) total += block.size;
    return total;
}
API Result cuMemAlloc_v2(Address* address, size_t size) {
    ENTER_CONTEXT();
    if (const Result code = not_while_capturing()) return code;
    if (!size) return INVALID_VALUE;
    if (in_use() + size > memory_limit) return OUT_OF_MEMORY;
    *address = make_block(device_memory, size, 0);
    return OK;
}
API Result cuMemFree_v2(Address address) {
    const Result code = run_all();  // freeing waits for the device
    const Result freed = free_block(device_memory, address);
    ENTER_CONTEXT();
    return freed ? freed : code;
}
API Result cuMemHostAlloc(void** pointer, size_t size, unsigned flags) {
    ENTER_CONTEXT();
    if (const Result code = not_while_capturing()) return code;
    *pointer = reinterpret_cast<void*>(make_block(host_memory, size, flags));
    return OK;
}
API Result cuMemFreeHost(void* pointer) {
    const Result code = run_all();
    const Result freed = free_block(host_memory, reinterpret_cast<Address>(pointer));
    ENTER_CONTEXT();
    return freed ? freed : code;
}
API Result cuMemHostGetDevicePointer_v2(Address* address, void* pointer, unsigned) {
    ENTER_CONTEXT();
    auto found = host_memory.find(reinterpret_cast<Address>(pointer));
    if (found == host_memory.end() || !(found->second.flags & 2)) return INVALID_VALUE;
    *address = found->first;
    return OK;
}
static Result copy(const char* name, Address to, Address from, size_t size, Stream* stream) {
    return put(stream, {name, [=] {
        std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size);
        return Result(OK);
    }, nullptr, nullptr});
}
API Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t size, Stream* stream) {
    ENTER_CONTEXT();
    if (!inside(device_memory, to, size)) return INVALID_VALUE;
    return copy(__func__, to, reinterpret_cast<Address>(from), size, stream);
}
API Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t size, Stream* stream) {
    ENTER_CONTEXT();
    if (!inside(device_memory, from, size)) return INVALID_VALUE;
    // Into pageable memory it would not be asynchronous.
    if (!inside(host_memory, reinterpret_cast<Address>(to), size)) return INVALID_VALUE;
    return copy(__func__, reinterpret_cast<Address>(to), from, size, stream);
}
API Result cuMemsetD32Async(Address to, unsigned value, size_t count, Stream* stream) {
    ENTER_CONTEXT();
    if (!inside(device_memory, to, 4 * count) && !inside(host_memory, to, 4 * count))
        return INVALID_VALUE;
    return put(stream, {__func__, [=] {
        for (size_t i = 0; i < count; ++i) reinterpret_cast<unsigned*>(to)[i] = value;
        return Result(OK);
    }, nullptr, nullptr});
}

// ---- Streams, events, kernels ---------------------------------------------------------------------

API Result cuStreamCreate(Stream** stream, unsigned) {
    ENTER_CONTEXT();
    streams.insert(*stream = new Stream);
    return OK;
}
API Result cuStreamDestroy_v2(Stream* stream) {
    if (streams.count(stream)) {
        run_until(stream, nullptr);
        streams.erase(stream);
        delete stream;
    }
    ENTER_CONTEXT();
    return OK;
}
API Result cuStreamSynchronize(Stream* stream) {
    ENTER_CONTEXT();
    if (const Result code = not_while_capturing()) return code;
    return run_until(stream, nullptr);
}
API Result cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
    ENTER_CONTEXT();
    if (stream->capturing) {  // the event is not of this capture
        stream->invalidated = true;
        return CAPTURE_ISOLATION;
    }
    return event->latest ? put(stream, {__func__, nullptr, nullptr, event->latest}) : Result(OK);
}
API Result cuEventCreate(Event** event, unsigned) {
    ENTER_CONTEXT();
    events.insert(*event = new Event);
    return OK;
}
API Result cuEventDestroy_v2(Event* event) {
    if (events.erase(event)) delete event;
    ENTER_CONTEXT();
    return OK;
}
static Result record(const char* name, Event* event, Stream* stream, bool external) {
    if (stream->capturing && !external) {
        event->latest = nullptr;  // in a graph it orders, and has no time
        return OK;
    }
    if (stream->capturing) return put(stream, {name, nullptr, nullptr, nullptr, event});
    event->latest = std::make_shared<Mark>();
    event->latest->stream = stream;
    return put(stream, {name, nullptr, event->latest, nullptr});
}
API Result cuEventRecord(Event* event, Stream* stream) {
    ENTER_CONTEXT();
    return record(__func__, event, stream, false);
}
API Result cuEventRecordWithFlags(Event* event, Stream* stream, unsigned flags) {
    ENTER_CONTEXT();
    return record(__func__, event, stream, flags == 1);
}
API Result cuEventSynchronize(Event* event) {
    ENTER_CONTEXT();
    return event->latest ? run_until(event->latest->stream, event->latest.get()) : Result(OK);
}
API Result cuEventElapsedTime(float* milliseconds, Event* begin, Event* end) {
    ENTER_CONTEXT();
    if (!begin->latest || !end->latest) return INVALID_HANDLE;
    if (!begin->latest->done || !end->latest->done) return NOT_READY;
    *milliseconds = static_cast<float>(end->latest->at_ms - begin->latest->at_ms);
    return OK;
}
API Result cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                          unsigned by, unsigned bz, unsigned, Stream* stream, void** parameters, void**) {
    ENTER_CONTEXT();
    if (!functions.count(function)) return INVALID_HANDLE;
    if (!gx || !gy || !gz || bx * by * bz > 1024) return INVALID_VALUE;
    const auto* begin = static_cast<unsigned char*>(parameters[0]);
    std::vector<unsigned char> args(begin, begin + function->args);
    return put(stream, {function->name, [=] {
        const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
        function->run(grid, block, args.data());
        return Result(OK);
    }, nullptr, nullptr});
}
API Result cuLaunchHostFunc(Stream* stream, void (*function)(void*), void* data) {
    ENTER_CONTEXT();
    return put(stream, {__func__, [=] {
        function(data);
        return Result(OK);
    }, nullptr, nullptr});
}

// ---- Graphs ---------------------------------------------------------------------------------------

API Result cuStreamBeginCapture_v2(Stream* stream, int) {
    ENTER_CONTEXT();
    stream->capturing = true, stream->invalidated = false, stream->captured.clear();
    ++capturing_here;
    return OK;
}
API Result cuStreamEndCapture(Stream* stream, Graph** graph) {
    *graph = nullptr;
    if (stream->capturing) --capturing_here;
    stream->capturing = false;
    ENTER_CONTEXT();
    if (stream->invalidated) return CAPTURE_INVALIDATED;
    graphs.insert(*graph = new Graph{stream->captured});
    return OK;
}
API Result cuGraphInstantiateWithFlags(Graph** runnable, Graph* graph, unsigned long long) {
    ENTER_CONTEXT();
    runnables.insert(*runnable = new Graph(*graph));
    return OK;
}
API Result cuGraphDestroy(Graph* graph) {
    if (graphs.erase(graph)) delete graph;
    ENTER();
    return OK;
}
API Result cuGraphExecDestroy(Graph* runnable) {
    if (runnables.erase(runnable)) delete runnable;
    ENTER();
    return OK;
}
API Result cuGraphLaunch(Graph* runnable, Stream* stream) {
    ENTER_CONTEXT();
    if (!runnables.count(runnable)) return INVALID_HANDLE;
    for (Work work : runnable->work) {
        if (work.external) {
            work.mark = work.external->latest = std::make_shared<Mark>();
            work.mark->stream = stream;
        }
        if (const Result code = put(stream, work)) return code;
    }
    return OK;
}

API Result cuGetExportTable(const void** table, const void*) {  // NVRTC asks, for its own cache
    *table = nullptr;
    return NOT_FOUND;
}

// ---- How cuda-python finds the above --------------------------------------------------------------

API Result cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
    static void* const self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *function = nullptr;
    for (const char* suffix : {"_v2", ""})
        if (!*function) *function = dlsym(self, (std::string(name) + suffix).c_str());
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
