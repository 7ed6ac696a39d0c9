// The two ends of a frame's path on the GPU: camera bytes to the network's input, and the network's
// stride-4 logits to the masks. Only bytes cross the bus; the full-size logits never exist.
//
// NVRTC compiles this file on the device it runs on; it includes nothing, so that no CUDA headers need
// to be installed. The tests compile the same file for the CPU behind a small shim.
//
// Exactness. `resize` is the fixed-point arithmetic of OpenCV's INTER_LINEAR on 8-bit images, equal to
// the byte. The labels and the confidence take the same IEEE single-precision operations in the same
// order as deeplab_rt/masks.py; the __f*_rn intrinsics keep the compiler from fusing a multiplication
// and an addition into one rounding. So the masks equal the CPU's wherever the logits do.
//
// Why the boundary shortcut: were every pixel interpolated, the masks of 1920x1080 would take 645 M
// operations instead of 132 M (a tenth of the pixels at borders). It costs one launch (`winners`) and
// one byte a grid point.

typedef unsigned char u8;
typedef unsigned int u32;

// IEEE half. A struct, so that overloads tell it from an integer.
struct Half {
    unsigned short bits;
};

#ifdef __CUDACC__
__device__ inline float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(Half value) { return half_to_float(value.bits); }

// Four neighbours in one aligned load: 16 bytes of float, 8 of half.
__device__ inline void load4(const float* from, float* to) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
__device__ inline void load4(const Half* from, float* to) {
    const ushort4 four = *reinterpret_cast<const ushort4*>(from);
    to[0] = half_to_float(four.x), to[1] = half_to_float(four.y);
    to[2] = half_to_float(four.z), to[3] = half_to_float(four.w);
}

__device__ inline u32 pack4(const u8* bytes) {
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<u32>(bytes[3]) << 24;
}

// ---------------------------------------------------------------------------------------------------
// Camera bytes to the network's input.

// Where one output row or column reads: two source indices, two weights of 11 bits that add up to 2048.
// Made on the host (kernels.py) in double precision as OpenCV does, once for each pair of sizes.
struct alignas(8) Tap {
    short before, after, weight_before, weight_after;
};

struct ResizeArgs {
    const u8* frame;  // [frame_height][frame_pitch], three bytes a pixel
    u8* image;        // [height][width][3] RGB, 4-byte aligned
    const Tap* rows;  // [height]
    const Tap* cols;  // [width]
    int height;
    int width;        // a multiple of 4
    int frame_pitch;  // bytes from one frame row to the next
    int swap;         // 1: the frame is BGR
};

// Four pixels a thread: twelve bytes go out as three words.
extern "C" __global__ void resize(ResizeArgs a) {
    const int x = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const Tap row = a.rows[y];
    const u8* above = a.frame + static_cast<size_t>(row.before) * a.frame_pitch;
    const u8* below = a.frame + static_cast<size_t>(row.after) * a.frame_pitch;
    u8 out[12];
    for (int i = 0; i < 4; ++i) {
        const Tap col = a.cols[x + i];
        for (int c = 0; c < 3; ++c) {
            const int from = a.swap ? 2 - c : c;
            const int left = 3 * col.before + from, right = 3 * col.after + from;
            const int top = above[left] * col.weight_before + above[right] * col.weight_after;
            const int bottom = below[left] * col.weight_before + below[right] * col.weight_after;
            // OpenCV's rounding, step by step: 4 bits off, 16 bits off each product, then 2 rounded.
            out[3 * i + c] = static_cast<u8>((((row.weight_before * (top >> 4)) >> 16) +
                                              ((row.weight_after * (bottom >> 4)) >> 16) + 2) >> 2);
        }
    }
    u32* to = reinterpret_cast<u32*>(a.image + (static_cast<size_t>(y) * a.width + x) * 3);
    to[0] = pack4(out), to[1] = pack4(out + 4), to[2] = pack4(out + 8);
}

// The frame has the network's size: only the channel order changes, in words both ways. The frame's
// rows must be 4-byte aligned, which they are, since the network's width is a multiple of 32.
extern "C" __global__ void reorder(ResizeArgs a) {
    const int x = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const u32* from = reinterpret_cast<const u32*>(
        a.frame + static_cast<size_t>(y) * a.frame_pitch + 3 * x);
    u8 out[12];
    for (int word = 0; word < 3; ++word) {
        const u32 bytes = from[word];
        for (int byte = 0; byte < 4; ++byte) {
            const int at = 4 * word + byte, channel = at % 3;
            out[a.swap ? at - channel + 2 - channel : at] = static_cast<u8>(bytes >> (8 * byte));
        }
    }
    u32* to = reinterpret_cast<u32*>(a.image + (static_cast<size_t>(y) * a.width + x) * 3);
    to[0] = pack4(out), to[1] = pack4(out + 4), to[2] = pack4(out + 8);
}

// ---------------------------------------------------------------------------------------------------
// Logits to masks.

struct LabelArgs {
    const void* logits;  // [classes][grid_height][grid_width], float or half
    u8* winners;         // [grid_height][grid_width], class index; made by `winners`, read by `labels`
    u8* labels;          // the masks: [height][pitch] each, 4-byte aligned, pitch a multiple of 4
    u8* drivable;
    u8* objects;
    u8* confidence;      // null if not asked for
    const u8* luts;      // [2][256]: label id to drivable, label id to object
    u32* not_finite;     // set to 1 if a logit is infinite or not a number
    int classes;
    int grid_height;
    int grid_width;      // a multiple of 4
    int height;
    int width;
    int pitch;
    float scale_y;       // grid_height / height, rounded to float
    float scale_x;
};

// The winning class of every grid point, the first of equal ones; four points a thread.
template <class T>
__device__ void find_winners(const LabelArgs& a) {
    const int area = a.grid_height * a.grid_width;
    const int at = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= area) return;
    const T* logits = static_cast<const T*>(a.logits) + at;
    float best[4], value[4];
    u8 winner[4] = {0, 0, 0, 0};
    bool finite = true;
    load4(logits, best);
    for (int i = 0; i < 4; ++i) finite = finite && best[i] - best[i] == 0.0f;
    for (int c = 1; c < a.classes; ++c) {
        load4(logits + static_cast<size_t>(c) * area, value);
        for (int i = 0; i < 4; ++i) {
            finite = finite && value[i] - value[i] == 0.0f;
            if (value[i] > best[i]) best[i] = value[i], winner[i] = static_cast<u8>(c);
        }
    }
    *reinterpret_cast<u32*>(a.winners + at) = pack4(winner);
    if (!finite) *a.not_finite = 1;  // every thread that writes writes the same
}

// One axis of one pixel on the grid, as PyTorch and masks.py place it (half-pixel centres).
struct Place {
    int before, after;
    float weight_before, weight_after;
};

__device__ inline Place place(int pixel, float scale, int grid) {
    const float position = fmaxf(__fsub_rn(__fmul_rn(scale, pixel + 0.5f), 0.5f), 0.0f);
    Place p;
    p.before = min(static_cast<int>(position), grid - 1);
    p.after = min(p.before + 1, grid - 1);
    p.weight_after = fminf(__fsub_rn(position, static_cast<float>(p.before)), 1.0f);
    p.weight_before = __fsub_rn(1.0f, p.weight_after);
    return p;
}

__device__ inline float blend(float weight_a, float a, float weight_b, float b) {
    return __fadd_rn(__fmul_rn(weight_a, a), __fmul_rn(weight_b, b));
}

// The label of a pixel between grid points that disagree.
//
// masks.py leaves out a class whose largest corner is below another class's smallest corner. That can
// matter only where rounding makes the two equal, so it is looked into only if such a class has won.
template <class T>
__device__ int border_label(const LabelArgs& a, const Place& y, const Place& x) {
    const int area = a.grid_height * a.grid_width;
    const T* above = static_cast<const T*>(a.logits) + y.before * a.grid_width;
    const T* below = static_cast<const T*>(a.logits) + y.after * a.grid_width;
    float floor = -3.402823466e+38f;
    for (int prune = 0;; prune = 1) {
        float best = -3.402823466e+38f, largest = best;
        int winner = 0;
        for (int c = 0; c < a.classes; ++c) {
            const size_t plane = static_cast<size_t>(c) * area;
            const float p = widen(above[plane + x.before]), q = widen(above[plane + x.after]);
            const float r = widen(below[plane + x.before]), s = widen(below[plane + x.after]);
            const float most = fmaxf(fmaxf(p, q), fmaxf(r, s));
            if (prune && most < floor) continue;
            floor = fmaxf(floor, fminf(fminf(p, q), fminf(r, s)));
            const float value = blend(y.weight_before, blend(x.weight_before, p, x.weight_after, q),
                                      y.weight_after, blend(x.weight_before, r, x.weight_after, s));
            if (value > best) best = value, winner = c, largest = most;
        }
        if (prune || largest >= floor) return winner + 1;
    }
}

// Softmax probability of the winner x 255, rounded. exp(z) is (1 + z / 1024) ** 1024, as in masks.py.
template <class T>
__device__ u32 confidence_of(const LabelArgs& a, const Place& y, const Place& x) {
    const int area = a.grid_height * a.grid_width;
    const T* above = static_cast<const T*>(a.logits) + y.before * a.grid_width;
    const T* below = static_cast<const T*>(a.logits) + y.after * a.grid_width;
    float top = 0.0f, total = 0.0f;
    for (int pass = 0; pass < 2; ++pass) {
        for (int c = 0; c < a.classes; ++c) {
            const size_t plane = static_cast<size_t>(c) * area;
            const float left = blend(y.weight_before, widen(above[plane + x.before]),
                                     y.weight_after, widen(below[plane + x.before]));
            const float right = blend(y.weight_before, widen(above[plane + x.after]),
                                      y.weight_after, widen(below[plane + x.after]));
            const float value = blend(x.weight_before, left, x.weight_after, right);
            if (pass == 0) {
                top = c == 0 ? value : fmaxf(top, value);
            } else {
                const float z = fmaxf(__fsub_rn(value, top), -16.0f);
                float power = __fadd_rn(1.0f, __fmul_rn(z, 1.0f / 1024));
                for (int i = 0; i < 10; ++i) power = __fmul_rn(power, power);
                total = __fadd_rn(total, power);
            }
        }
    }
    return static_cast<u32>(__fadd_rn(__fdiv_rn(255.0f, total), 0.5f));
}

// All masks of a frame in one pass, four pixels a thread. A row's padding up to the pitch is written
// too: it belongs to the row.
template <class T>
__device__ void make_masks(const LabelArgs& a) {
    const int first = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (first >= a.width || row >= a.height) return;
    const Place y = place(row, a.scale_y, a.grid_height);
    const u8* above = a.winners + y.before * a.grid_width;
    const u8* below = a.winners + y.after * a.grid_width;
    u32 labels = 0, drivable = 0, objects = 0, confidence = 0;
    for (int i = 0; i < 4; ++i) {
        const Place x = place(min(first + i, a.width - 1), a.scale_x, a.grid_width);
        const int winner = above[x.before];
        const bool agree =
            above[x.after] == winner && below[x.before] == winner && below[x.after] == winner;
        const u32 label = agree ? winner + 1 : border_label<T>(a, y, x);
        labels |= label << (8 * i);
        drivable |= static_cast<u32>(a.luts[label]) << (8 * i);
        objects |= static_cast<u32>(a.luts[256 + label]) << (8 * i);
        if (a.confidence) confidence |= confidence_of<T>(a, y, x) << (8 * i);
    }
    const size_t at = static_cast<size_t>(row) * a.pitch + first;
    *reinterpret_cast<u32*>(a.labels + at) = labels;
    *reinterpret_cast<u32*>(a.drivable + at) = drivable;
    *reinterpret_cast<u32*>(a.objects + at) = objects;
    if (a.confidence) *reinterpret_cast<u32*>(a.confidence + at) = confidence;
}

extern "C" __global__ void winners_float(LabelArgs a) { find_winners<float>(a); }
extern "C" __global__ void winners_half(LabelArgs a) { find_winners<Half>(a); }
extern "C" __global__ void masks_float(LabelArgs a) { make_masks<float>(a); }
extern "C" __global__ void masks_half(LabelArgs a) { make_masks<Half>(a); }
