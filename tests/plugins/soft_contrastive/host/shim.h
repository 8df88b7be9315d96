// Runs CUDA kernels on the host: each thread of a block is a fiber, resumed in turns.
//
// A fiber runs until it reaches a barrier or a shuffle. When all have, the next turn begins:
// so a missing barrier lets early threads read what late ones have not written yet. Threads
// are resumed in ascending or descending order, which must not matter.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // blocks run one after another
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(threads, blocks)

struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct double2 {
  double x, y;
};
struct uint2 {
  unsigned x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

struct Dim3 {
  unsigned x, y, z;
};

namespace shim {
enum Wait { kStart, kBarrier, kShuffle, kDone };
constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;  // to begin with; jumps go on from there, without a system call
  jmp_buf jump;
  std::vector<char> stack;
  Dim3 index;
  Wait wait;
  float value;
};

inline std::vector<Fiber> fibers;
inline jmp_buf scheduler;
inline Fiber* current;
inline std::function<void()> body;
inline bool descending = false;

inline void enter() {
  body();
  current->wait = kDone;
  _longjmp(scheduler, 1);
}

inline void yield(Wait wait) {
  current->wait = wait;
  if (!_setjmp(current->jump)) _longjmp(scheduler, 1);
}

inline void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler)) return;
  if (fiber.wait == kStart) setcontext(&fiber.context);
  _longjmp(fiber.jump, 1);
}
}  // namespace shim

inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }

// Rounded downwards and upwards, whatever the host's rounding mode.
inline float __double2float_rd(double a) {
  const float nearest = (float)a;
  return nearest > a ? nextafterf(nearest, -INFINITY) : nearest;
}
inline float __double2float_ru(double a) {
  const float nearest = (float)a;
  return nearest < a ? nextafterf(nearest, INFINITY) : nearest;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline Dim3 blockIdx, blockDim, gridDim;
#define threadIdx (shim::current->index)

inline void __syncthreads() { shim::yield(shim::kBarrier); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const long self = shim::current - shim::fibers.data();
  shim::current->value = value;
  shim::yield(shim::kShuffle);
  const long warp = self / 32 * 32;
  const float other = shim::fibers[warp + ((self - warp) ^ mask)].value;
  shim::yield(shim::kShuffle);
  return other;
}

namespace shim {
inline void run_block(Dim3 block) {
  const unsigned threads = block.x * block.y;
  fibers.resize(threads);
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    fiber.stack.resize(kStack);
    fiber.index = {t % block.x, t / block.x, 0};
    fiber.wait = kStart;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  // A warp goes on from a shuffle by itself; from a barrier, all warps together that have not
  // returned.
  for (unsigned done = 0; done < threads;) {
    bool at_barrier = true;
    for (const Fiber& fiber : fibers)
      at_barrier = at_barrier && (fiber.wait == kBarrier || fiber.wait == kDone);
    for (unsigned k = 0; k < threads; ++k) {
      Fiber& fiber = fibers[descending ? threads - 1 - k : k];
      if (fiber.wait != kDone && (fiber.wait != kBarrier || at_barrier)) resume(fiber);
    }
    done = 0;
    for (unsigned t = 0; t < threads; ++t) {
      done += fibers[t].wait == kDone;
      if (fibers[t].wait != fibers[t / 32 * 32].wait) {
        fprintf(stderr, "threads of a warp wait at different points\n");
        abort();
      }
    }
  }
}

template <class Kernel, class... Arguments>
void launch(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block_x,
            unsigned block_y, bool in_descending_order, Arguments... arguments) {
  body = [=] { kernel(arguments...); };
  descending = in_descending_order;
  gridDim = {grid_x, grid_y, 1};
  blockDim = {block_x, block_y, 1};
  for (unsigned y = 0; y < grid_y; ++y)
    for (unsigned x = 0; x < grid_x; ++x) {
      blockIdx = {x, y, 0};
      run_block(blockDim);
    }
}
}  // namespace shim
