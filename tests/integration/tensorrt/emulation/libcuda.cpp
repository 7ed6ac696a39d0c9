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
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int Result;
typedef uint64_t Address;
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, STUB = 34, NO_DEVICE = 100, INVALID_CONTEXT = 201,
    INVALID_DEVICE = 101, NO_BINARY = 209,
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
    unsigned flags = 0;
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
    int mode = 0;  // of the capture: 0 global, 1 thread-local, 2 relaxed
    std::thread::id capturer;
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
static int sm_count = 16, blocking_streams = 0, mapped_delay_us = 0, copy_delay_us = 0;
static std::map<std::string, uint64_t> host_words;  // kernel -> its argument words that point to the host
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
static thread_local int current = 0;
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
static Stream legacy;  // the default stream, by the handle 1
static Stream* real(Stream* stream) {
    return reinterpret_cast<Address>(stream) == 1 ? &legacy : stream;
}
static Result put(Stream* stream, Work work) {
    if (stream != &legacy && !streams.count(stream)) return INVALID_HANDLE;
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
    Result code = OK;
    for (Stream* stream : streams)
        if (stream->capturing &&
            (stream->mode == 0 ||
             (stream->mode == 1 && stream->capturer == std::this_thread::get_id())))
            stream->invalidated = true, code = CAPTURE_UNSUPPORTED;
    return code;
}

static bool inside(const std::map<Address, Block>& where, Address address, size_t size);

// ---- For the tests --------------------------------------------------------------------------------

API void emu_present(int value) { present = value; }
API void emu_integrated(int value) { integrated = value; }
API void emu_sms(int value) { sm_count = value; }
// How long a kernel takes that reads or writes the host's memory, and a copy.
API void emu_delays(int mapped_us, int copy_us) { mapped_delay_us = mapped_us, copy_delay_us = copy_us; }
API int emu_blocking_streams() { return blocking_streams; }
API uint64_t emu_host_words(const char* kernel) { return host_words[kernel]; }
API void emu_other_context() { current = 0; }  // somebody else made theirs current in this thread
API void emu_eager_copies(int value) { eager_copies = value; }
API void emu_memory_limit(size_t bytes) { memory_limit = bytes; }
API void emu_device(const char* name, int major, int minor) {
    device_name = name, capability_major = major, capability_minor = minor;
}
API void emu_kernels(const char* path) { kernels = dlopen(path, RTLD_NOW); }
API void emu_fail(const char* name, int nth, int code) { injections[name] = {nth, code}; }
API int emu_calls(const char* name) { return calls[name]; }
API void emu_forget() {  // failures and counts, as a new process would
    injections.clear(), calls.clear(), lost = 0, current = 0, legacy = Stream();
    eager_copies = integrated = 0, memory_limit = size_t(1) << 40, sm_count = 16;
    mapped_delay_us = copy_delay_us = blocking_streams = 0, host_words.clear();
}
API int emu_live() {
    return device_memory.size() + host_memory.size() + streams.size() + events.size() + graphs.size() +
           runnables.size() + modules + contexts;
}
API int emu_is_allocated(Address address) { return inside(device_memory, address, 1); }
API int emu_is_capturing(Stream* stream) { return streams.count(stream) && stream->capturing; }
API int emu_lost() { return lost; }
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
    if (ordinal < 0 || ordinal >= present) return INVALID_DEVICE;
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
             : attribute == 16 ? sm_count
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
    current = context == &contexts;
    return OK;
}
API Result cuModuleLoadData(void** module, const void* image) {
    ENTER_CONTEXT();
    if (std::memcmp(image, "\x7f" "ELF", 4)) return INVALID_VALUE;
    // A cubin runs on its own major architecture, from its minor one on. NVRTC 13 has the architecture
    // in the second byte of e_flags (ABI 8), NVRTC 12 in the first (ABI 7).
    const auto* elf = static_cast<const unsigned char*>(image);
    const int built_for = elf[8] >= 8 ? elf[49] : elf[48];
    if (built_for / 10 != capability_major || built_for % 10 > capability_minor) return NO_BINARY;
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
        std::this_thread::sleep_for(std::chrono::microseconds(copy_delay_us));
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
struct Rows {  // CUDA_MEMCPY2D
    size_t source_x, source_y;
    int source_type;
    const void* source_host;
    Address source;
    void* source_array;
    size_t source_pitch, target_x, target_y;
    int target_type;
    void* target_host;
    Address target;
    void* target_array;
    size_t target_pitch, width, height;
};
API Result cuMemcpy2DAsync_v2(const Rows* given, Stream* stream) {
    ENTER_CONTEXT();
    const Rows rows = *given;
    if (rows.source_type != 4 || rows.target_type != 4 || rows.source_pitch < rows.width) return INVALID_VALUE;
    if (!inside(device_memory, rows.source, (rows.height - 1) * rows.source_pitch + rows.width)) return INVALID_VALUE;
    const size_t size = rows.height * rows.target_pitch;
    if (!inside(device_memory, rows.target, size) && !inside(host_memory, rows.target, size)) return INVALID_VALUE;
    return put(stream, {__func__, [=] {
        for (size_t row = 0; row < rows.height; ++row)
            std::memcpy(reinterpret_cast<void*>(rows.target + row * rows.target_pitch),
                        reinterpret_cast<void*>(rows.source + row * rows.source_pitch), rows.width);
        return Result(OK);
    }, nullptr, nullptr});
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

API Result cuStreamCreate(Stream** stream, unsigned flags) {
    ENTER_CONTEXT();
    blocking_streams += flags != 1;  // one that waits for the default stream, and it for this one
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
    stream = real(stream);
    if (stream->capturing) {  // the event is not of this capture
        stream->invalidated = true;
        return CAPTURE_ISOLATION;
    }
    return event->latest ? put(stream, {__func__, nullptr, nullptr, event->latest}) : Result(OK);
}
API Result cuEventCreate(Event** event, unsigned flags) {
    ENTER_CONTEXT();
    events.insert(*event = new Event);
    (*event)->flags = flags;
    return OK;
}
API Result cuEventDestroy_v2(Event* event) {
    if (events.erase(event)) delete event;
    ENTER_CONTEXT();
    return OK;
}
static Result record(const char* name, Event* event, Stream* stream, bool external) {
    stream = real(stream);
    if (external && !stream->capturing) return INVALID_VALUE;  // only a graph has such nodes
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
    if (!begin->latest || !end->latest || (begin->flags | end->flags) & 2) return INVALID_HANDLE;
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
    uint64_t words = 0;
    for (size_t i = 0; 8 * i + 8 <= args.size(); ++i) {
        Address address;
        std::memcpy(&address, &args[8 * i], 8);
        if (inside(host_memory, address, 1)) words |= uint64_t(1) << i;
    }
    host_words[function->name] |= words;
    return put(stream, {function->name, [=] {
        if (words) std::this_thread::sleep_for(std::chrono::microseconds(mapped_delay_us));
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

API Result cuStreamBeginCapture_v2(Stream* stream, int mode) {
    ENTER_CONTEXT();
    stream->capturing = true, stream->invalidated = false, stream->captured.clear();
    stream->mode = mode, stream->capturer = std::this_thread::get_id();
    return OK;
}
API Result cuStreamEndCapture(Stream* stream, Graph** graph) {
    *graph = nullptr;
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
