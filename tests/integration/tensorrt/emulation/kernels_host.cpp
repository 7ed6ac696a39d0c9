// A double of the GPU: runs deeplab_rt/backends/tensorrt/kernels.cu on the CPU, thread after thread.
//
// What CUDA gives the source is defined here; then every kernel gets an entry `NAME_host` that takes a
// grid, a block and a pointer to its argument struct. Compile with -ffp-contract=off: the _rn
// intrinsics promise one rounding an operation.
#include <cmath>
#include <cstddef>
#include <cstring>

#define __global__
#define __device__

struct Index3 {
    unsigned x, y, z;
};
static thread_local Index3 blockIdx, blockDim, threadIdx;

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};

static inline int min(int a, int b) { return a < b ? a : b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }

static inline float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                  : exponent == 31 ? (fraction ? NAN : INFINITY)
                                   : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return bits >> 15 ? -value : value;
}

#include KERNELS  // the path of kernels.cu, given by the compiler's command line

template <class Args>
static void run(void (*kernel)(Args), const unsigned* grid, const unsigned* block, const void* args) {
    Args copy;
    std::memcpy(&copy, args, sizeof copy);
    blockDim = {block[0], block[1], block[2]};
    for (unsigned bz = 0; bz < grid[2]; ++bz)
        for (unsigned by = 0; by < grid[1]; ++by)
            for (unsigned bx = 0; bx < grid[0]; ++bx)
                for (unsigned z = 0; z < block[2]; ++z)
                    for (unsigned y = 0; y < block[1]; ++y)
                        for (unsigned x = 0; x < block[0]; ++x) {
                            blockIdx = {bx, by, bz};
                            threadIdx = {x, y, z};
                            kernel(copy);
                        }
}

#define ENTRY(NAME, ARGS)                                                                         \
    extern "C" void NAME##_host(const unsigned* grid, const unsigned* block, const void* args) { \
        run<ARGS>(NAME, grid, block, args);                                                      \
    }                                                                                            \
    extern "C" const std::size_t NAME##_args = sizeof(ARGS);

ENTRY(resize, ResizeArgs)
ENTRY(reorder, ResizeArgs)
ENTRY(winners_float, LabelArgs)
ENTRY(winners_half, LabelArgs)
ENTRY(masks_float, LabelArgs)
ENTRY(masks_half, LabelArgs)
