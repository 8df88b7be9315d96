// Elementwise work on one tile of similarities of the soft contrastive loss.
//
// Before this text stand rows.cu and, made from the influence function's C expression,
// `influence(d, rule)`, or `influence(d, h, rule)` with h the difference of headings. The same
// bytes compile for the GPU (NVRTC) and, behind a small shim, as C++ for the host, where the
// tests run them.
//
// 32 x 8 threads share 128 x 128 pairs of the tile. A thread keeps four neighbouring columns in
// registers and takes every eighth row. What the block finds for its rows and columns it writes
// to its own place in `row_partial` and `column_partial`; `reduce` adds these up in a fixed
// order, so that every run gives the same bits: no atomics.

#define WARPS 8
#define EACH 4  // columns of a thread

enum Step { kAttracting, kExtrema, kSums, kFar };

struct Pair {
  float plus, minus;  // attraction and repulsion
  bool attracts, repels;
};

// An image of the rows or of the columns, as the float32 part of the work needs it.
struct Image {
  float4 place;
#if COORDINATES == 3
  float2 height;
#endif
#if HEADINGS
  float2 heading;
#endif
#ifdef REGIONS
  int region;
#endif
};

static __device__ __forceinline__ Image image(const Side& side, int i) {
  Image at;
  at.place = side.place[i];
#if COORDINATES == 3
  at.height = side.height[i];
#endif
#if HEADINGS
  at.heading = side.heading[i];
#endif
#ifdef REGIONS
  at.region = side.region[i];
#endif
  return at;
}

// Return d, moved to the side of an edge on which float64 says that it is.
static __device__ __forceinline__ float on_side(float d, Edge edge, bool beyond) {
  return beyond ? fmaxf(d, edge.at) : fminf(d, edge.below);
}

// Return the distance where float32 cannot tell its side of an edge. Rarely called: a call
// keeps float64 out of the loop.
static __device__ __noinline__ float exact_distance(const double* row, const double* column,
                                                    const Rule& rule) {
  double squared = 0.0;
  for (int axis = 0; axis < COORDINATES; ++axis) {
    const double difference = row[axis] - column[axis];
    // Not fused: rounded as everywhere else, so that a tie is one everywhere.
    squared = __dadd_rn(squared, __dmul_rn(difference, difference));
  }
  const double exact = sqrt(squared);
  const float d = on_side((float)exact, rule.support, exact >= rule.support_m);
#ifdef REPULSION_STARTS
  return on_side(d, rule.start, exact > rule.start_m);
#else
  return d;
#endif
}

#if HEADINGS
static __device__ __noinline__ float exact_turn(double row, double column, const Rule& rule) {
  double turn = fabs(row - column);
  turn = fmin(turn, 6.283185307179586 - turn);
  const float rounded = on_side((float)turn, rule.turn_support, turn >= rule.support_rad);
  return on_side(rounded, rule.turn_limit, turn > rule.limit_rad);
}
#endif

// Distances of one row to a thread's columns.
static __device__ __forceinline__ void distances(const Work& work, const Image& a,
                                                 const Image* column, int i, int j, float* d) {
  const Rule& rule = work.rule;
  bool unsure = false;
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    const Image& c = column[k];
    const float x = (a.place.x - c.place.x) + (a.place.z - c.place.z);
    const float y = (a.place.y - c.place.y) + (a.place.w - c.place.w);
    float squared = fmaf(x, x, fmaf(y, y, 1e-30f));  // above 0, whose inverse root is infinite
#if COORDINATES == 3
    const float z = (a.height.x - c.height.x) + (a.height.y - c.height.y);
    squared = fmaf(z, z, squared);
#endif
    d[k] = squared * rsqrtf(squared);
    unsure = unsure || fabsf(d[k] - rule.support.at) < rule.edge_m;
#ifdef REPULSION_STARTS
    unsure = unsure || fabsf(d[k] - rule.start.at) < rule.edge_m;
#endif
  }
  if (!unsure) return;
  const double* row = work.rows.exact + (long long)COORDINATES * i;
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    d[k] = exact_distance(row, work.columns.exact + (long long)COORDINATES * (j + k), rule);
}

// Return weights and membership of pair (i, j) at distance d.
static __device__ __forceinline__ Pair weigh(const Work& work, float d, const Image& a,
                                             const Image& c, int i, int j, bool same) {
  const Rule& rule = work.rule;
  bool near = d < rule.support.at;
#ifdef REGIONS
  near = near && a.region == c.region;
#endif
  Pair pair;
#if HEADINGS
  float h = fabsf((a.heading.x - c.heading.x) + (a.heading.y - c.heading.y));
  h = fminf(h, (6.2831855f - h) - 1.7484556e-7f);  // 2 pi in two parts
  if (fabsf(h - rule.turn_support.at) < 1e-5f || fabsf(h - rule.turn_limit.at) < 1e-5f)
    h = exact_turn(work.rows.exact_heading[i], work.columns.exact_heading[j], rule);
  near = near && h < rule.turn_support.at;
  const bool excluded = near && h >= rule.turn_limit.at;
#endif
#if HEADINGS == 2
  pair.plus = near ? influence(d, h, rule) : 0.0f;
#else
  pair.plus = near ? influence(d, rule) : 0.0f;
#endif
  pair.minus = 1.0f - pair.plus;
  pair.repels = true;
#ifdef REPULSION_STARTS
  pair.repels = d >= rule.start.at || !near;
#endif
#if HEADINGS
  if (excluded) {
    pair.plus = pair.minus = 0.0f;
    near = pair.repels = false;
  }
#endif
  pair.attracts = near && !same;
  return pair;
}

static __device__ __forceinline__ float of_attraction(float p, const Rule& rule) {
#ifdef PLAIN
  return p;
#else
  return exp2f(rule.alpha * (rule.base - p));
#endif
}

static __device__ __forceinline__ float of_repulsion(float n, const Rule& rule) {
#ifdef PLAIN
  return n;
#else
  return exp2f(rule.beta * (n - rule.base));
#endif
}

// Whether no pair of two blocks of 128 images attracts. Boxes are rounded outwards, and the
// support upwards: in doubt, blocks are near, and each pair decides.
static __device__ __forceinline__ bool far_apart(const Work& work, int row_block,
                                                 int column_block) {
  const float4 al = work.rows.box[2 * row_block], au = work.rows.box[2 * row_block + 1];
  const float4 bl = work.columns.box[2 * column_block];
  const float4 bu = work.columns.box[2 * column_block + 1];
  const float x = fmaxf(fmaxf(al.x - bu.x, bl.x - au.x), 0.0f);
  const float y = fmaxf(fmaxf(al.y - bu.y, bl.y - au.y), 0.0f);
  const float z = fmaxf(fmaxf(al.z - bu.z, bl.z - au.z), 0.0f);
  const float region = fmaxf(al.w - bu.w, bl.w - au.w);
  return fmaf(x, x, fmaf(y, y, z * z)) > work.rule.far_squared || region > 0.0f;
}

struct Shared {
  Image row[BLOCK];
  float2 keep[BLOCK];  // or the row's t, in x
  float2 row_result[BLOCK];
  float2 column_result[WARPS][BLOCK];
};

template <int STEP>
static __device__ __forceinline__ float combine(float a, float b) {
  return STEP == kSums ? a + b : fmaxf(a, b);
}

template <int STEP>
static __device__ __forceinline__ float2 combine_both(float2 a, float2 b) {
  // Of a far tile a sum and a maximum are wanted.
  return make_float2(combine<STEP == kFar ? kSums : STEP>(a.x, b.x), combine<STEP>(a.y, b.y));
}

// Take pair (i, j) into what is found for row and column.
template <int STEP, bool NEAR, bool MINED>
static __device__ __forceinline__ void visit(const Work& work, float s, float d,
                                             const Image& a, const Image& c, int i, int j,
                                             bool same, float2 row_keep, float2 column_keep,
                                             float2& row, float2& column) {
  Pair pair = {0.0f, 1.0f, false, true};
  if (NEAR) pair = weigh(work, d, a, c, i, j, same);
  const float n = NEAR ? pair.minus * s : s;
  if (STEP == kAttracting) {
    const float p = same ? 0.0f : pair.plus * s;  // w+(0) - 1 of an image and itself is no more
    row.x = fmaxf(row.x, p);
    column.x = fmaxf(column.x, p);
  } else if (STEP == kExtrema) {
    row.y = fmaxf(row.y, n);
    column.y = fmaxf(column.y, n);
    if (NEAR) {
      const float plus = same ? pair.plus - 1.0f : pair.plus;
      row.x = fmaxf(row.x, (row_keep.x - s) * plus);
      column.x = fmaxf(column.x, (column_keep.x - s) * plus);
    }
  } else if (STEP == kFar) {
    const float e = of_repulsion(n, work.rule);
    if (!MINED || n > row_keep.y) row.x += e;
    if (!MINED || n > column_keep.y) column.x += e;
    row.y = fmaxf(row.y, n);
    column.y = fmaxf(column.y, n);
  } else {
    if (NEAR) {
      const float p = pair.plus * s, e = of_attraction(p, work.rule);
      if (pair.attracts && (!MINED || p < row_keep.x)) row.x += e;
      if (pair.attracts && (!MINED || p < column_keep.x)) column.x += e;
    }
    const float e = of_repulsion(n, work.rule);
    if (pair.repels && (!MINED || n > row_keep.y)) row.y += e;
    if (pair.repels && (!MINED || n > column_keep.y)) column.y += e;
  }
}

// One block's pairs. RAGGED: some rows or columns are padding.
template <int STEP, bool NEAR, bool MINED, bool RAGGED>
static __device__ __forceinline__ void walk(const Work& work, const float* tile, int row_block,
                                            int column_block, int width, Shared& shared) {
  const int lane = threadIdx.x, warp = threadIdx.y, j = column_block + EACH * lane;
  Image column[EACH];
  float2 keep[EACH], found[EACH];
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    if (NEAR) column[k] = image(work.columns, j + k);
    keep[k] = make_float2(0.0f, 0.0f);
    if (STEP == kExtrema) keep[k].x = work.columns.most_attracting[j + k];
    if (MINED && STEP >= kSums) keep[k] = work.columns.keep[j + k];
    found[k] = make_float2(0.0f, 0.0f);
  }
#pragma unroll(NEAR ? 1 : 2)
  for (int r = warp; r < BLOCK; r += WARPS) {
    const int i = row_block + r;
    const float4 four = *(const float4*)(tile + (long long)r * width + EACH * lane);
    const float s[EACH] = {four.x, four.y, four.z, four.w};
    const float2 row_keep = shared.keep[r];
    const int own = !NEAR ? -1 : (work.rows.own ? work.rows.own[i] : i) - j;
    float2 row = make_float2(0.0f, 0.0f);
    float d[EACH] = {};
    if (NEAR) distances(work, shared.row[r], column, i, j, d);
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
      if (RAGGED && (i >= work.rows.size || j + k >= work.columns.size)) continue;
      visit<STEP, NEAR, MINED>(work, fmaxf(s[k], 0.0f), d[k], shared.row[r], column[k], i,
                               j + k, NEAR && own == k, row_keep, keep[k], row, found[k]);
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
      float2 other = make_float2(0.0f, 0.0f);
      if (NEAR || STEP == kFar) other.x = __shfl_xor_sync(0xffffffffu, row.x, mask);
      if (STEP != kAttracting) other.y = __shfl_xor_sync(0xffffffffu, row.y, mask);
      row = combine_both<STEP>(row, other);
    }
    if (lane == 0) shared.row_result[r] = row;
  }
#pragma unroll
  for (int k = 0; k < EACH; ++k) shared.column_result[warp][EACH * lane + k] = found[k];
}

// Walk one tile. Of a tile on the diagonal of a square matrix, blocks below the diagonal are
// those above it once more: they find nothing.
template <int STEP, bool MINED>
static __device__ __forceinline__ void walk_tile(const Work& work, const float* tile,
                                                 int first_row, int first_column, int width,
                                                 int diagonal) {
  __shared__ Shared shared;
  if (diagonal && blockIdx.y > blockIdx.x) return;
  const int row_block = first_row + BLOCK * blockIdx.y;
  const int column_block = first_column + BLOCK * blockIdx.x;
  const int thread = threadIdx.y * 32 + threadIdx.x;
  const bool near =
      STEP != kFar && !far_apart(work, row_block / BLOCK, column_block / BLOCK);
  if (thread < BLOCK) {
    const int i = row_block + thread;
    if (STEP != kFar && near) shared.row[thread] = image(work.rows, i);
    shared.keep[thread] = make_float2(0.0f, 0.0f);
    if (STEP == kExtrema) shared.keep[thread].x = work.rows.most_attracting[i];
    if (MINED && STEP >= kSums) shared.keep[thread] = work.rows.keep[i];
  }
  __syncthreads();
  tile += (long long)BLOCK * blockIdx.y * width + BLOCK * blockIdx.x;
  const bool ragged =
      row_block + BLOCK > work.rows.size || column_block + BLOCK > work.columns.size;
  if (STEP != kFar && near && ragged)
    walk<STEP, STEP != kFar, MINED, true>(work, tile, row_block, column_block, width, shared);
  else if (STEP != kFar && near)
    walk<STEP, STEP != kFar, MINED, false>(work, tile, row_block, column_block, width, shared);
  else if (STEP == kAttracting) {
    // No pair attracts.
    if (thread < BLOCK) shared.row_result[thread] = make_float2(0.0f, 0.0f);
    for (int k = 0; k < EACH; ++k)
      shared.column_result[threadIdx.y][EACH * threadIdx.x + k] = make_float2(0.0f, 0.0f);
  } else if (ragged)
    walk<STEP, false, MINED, true>(work, tile, row_block, column_block, width, shared);
  else
    walk<STEP, false, MINED, false>(work, tile, row_block, column_block, width, shared);
  __syncthreads();
  if (thread < BLOCK) {
    const int num_rows = BLOCK * gridDim.y, num_columns = BLOCK * gridDim.x;
    work.row_partial[(long long)blockIdx.x * num_rows + BLOCK * blockIdx.y + thread] =
        shared.row_result[thread];
    float2 all = shared.column_result[0][thread];
    for (int k = 1; k < WARPS; ++k)
      all = combine_both<STEP>(all, shared.column_result[k][thread]);
    work.column_partial[(long long)blockIdx.y * num_columns + BLOCK * blockIdx.x + thread] = all;
  }
}

// Mining, first step: each row's and column's largest p, in x.
extern "C" __global__ void __launch_bounds__(256, 4)
    most_attracting(const Work work, const float* tile, int first_row, int first_column,
                    int width, int diagonal) {
  walk_tile<kAttracting, true>(work, tile, first_row, first_column, width, diagonal);
}

// Mining, second step: the largest (t - s) w+ in x, the largest n in y.
extern "C" __global__ void __launch_bounds__(256, 4)
    mining_extrema(const Work work, const float* tile, int first_row, int first_column,
                   int width, int diagonal) {
  walk_tile<kExtrema, true>(work, tile, first_row, first_column, width, diagonal);
}

// The sums over attracting (x) and repelling pairs (y).
extern "C" __global__ void __launch_bounds__(256, 4)
    sums(const Work work, const float* tile, int first_row, int first_column, int width,
         int diagonal) {
  walk_tile<kSums, false>(work, tile, first_row, first_column, width, diagonal);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    mined_sums(const Work work, const float* tile, int first_row, int first_column, int width,
               int diagonal) {
  walk_tile<kSums, true>(work, tile, first_row, first_column, width, diagonal);
}

// Of a tile without near pairs: the sum over repelling pairs (x) and the largest n (y).
extern "C" __global__ void __launch_bounds__(256, 4)
    far_sums(const Work work, const float* tile, int first_row, int first_column, int width,
             int diagonal) {
  walk_tile<kFar, false>(work, tile, first_row, first_column, width, diagonal);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    mined_far_sums(const Work work, const float* tile, int first_row, int first_column,
                   int width, int diagonal) {
  walk_tile<kFar, true>(work, tile, first_row, first_column, width, diagonal);
}

// Return two numbers as bfloat16, the first in the lower half: to nearest, ties to even.
static __device__ __forceinline__ unsigned two_bfloat16(float first, float second) {
  unsigned packed;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
#else
  const unsigned a = __float_as_uint(first), b = __float_as_uint(second);
  packed = (a + 0x7fffu + ((a >> 16) & 1u)) >> 16;
  packed |= (b + 0x7fffu + ((b >> 16) & 1u)) & 0xffff0000u;
#endif
  return packed;
}

// The derivative by one similarity: 0 by one that is not positive.
template <bool NEAR, bool MINED>
static __device__ __forceinline__ float derivative(const Work& work, float s, float d,
                                                   const Image& a, const Image& c, int i,
                                                   int j, bool same, float4 row,
                                                   float4 column) {
  Pair pair = {0.0f, 1.0f, false, true};
  if (NEAR) pair = weigh(work, d, a, c, i, j, same);
  const float p = pair.plus * s, n = NEAR ? pair.minus * s : s;
  float attracting = 0.0f, repelling = 0.0f;
  if (NEAR) {
    // Not added before the test: a row's factor counts for its own kept pairs alone.
    float factor = !MINED || p < row.x ? row.z : 0.0f;
    factor += !MINED || p < column.x ? column.z : 0.0f;
    attracting = pair.attracts ? pair.plus * factor : 0.0f;
  }
  float factor = !MINED || n > row.y ? row.w : 0.0f;
  factor += !MINED || n > column.y ? column.w : 0.0f;
  repelling = pair.repels ? (NEAR ? pair.minus * factor : factor) : 0.0f;
#ifndef PLAIN
  if (NEAR) attracting *= of_attraction(p, work.rule);
  repelling *= of_repulsion(n, work.rule);
#endif
  return s > 0.0f && !same ? repelling - attracting : 0.0f;
}

template <bool NEAR, bool MINED, bool RAGGED>
static __device__ __forceinline__ void differentiate(const Work& work, float* tile,
                                                     uint2* halves, int row_block,
                                                     int column_block, int width,
                                                     const Image* rows, const float4* numbers) {
  const int lane = threadIdx.x, warp = threadIdx.y, j = column_block + EACH * lane;
  Image column[EACH];
  float4 of_column[EACH];
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    if (NEAR) column[k] = image(work.columns, j + k);
    of_column[k] = row_numbers(work.columns, j + k);
  }
#pragma unroll(NEAR ? 1 : 2)
  for (int r = warp; r < BLOCK; r += WARPS) {
    const int i = row_block + r;
    const long long place = (long long)r * width + EACH * lane;
    const float4 four = *(const float4*)(tile + place);
    const float s[EACH] = {four.x, four.y, four.z, four.w};
    const float4 of_row = numbers[r];
    const int own = !NEAR ? -1 : (work.rows.own ? work.rows.own[i] : i) - j;
    float out[EACH], d[EACH] = {};
    if (NEAR) distances(work, rows[r], column, i, j, d);
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
      out[k] = derivative<NEAR, MINED>(work, s[k], d[k], rows[r], column[k], i, j + k,
                                       NEAR && own == k, of_row, of_column[k]);
      if (RAGGED && (i >= work.rows.size || j + k >= work.columns.size)) out[k] = 0.0f;
    }
    if (halves) {
      uint2 packed;
      packed.x = two_bfloat16(out[0], out[1]);
      packed.y = two_bfloat16(out[2], out[3]);
      halves[place / EACH] = packed;
    } else {
      *(float4*)(tile + place) = make_float4(out[0], out[1], out[2], out[3]);
    }
  }
}

// Backward: the derivative by each similarity, written over the tile, or as bfloat16 to
// `halves` if that is not null.
template <bool MINED>
static __device__ __forceinline__ void gradient_tile(const Work& work, float* tile,
                                                     uint2* halves, int first_row,
                                                     int first_column, int width) {
  __shared__ Image rows[BLOCK];
  __shared__ float4 numbers[BLOCK];
  const int row_block = first_row + BLOCK * blockIdx.y;
  const int column_block = first_column + BLOCK * blockIdx.x;
  const int thread = threadIdx.y * 32 + threadIdx.x;
  const bool near = !far_apart(work, row_block / BLOCK, column_block / BLOCK);
  if (thread < BLOCK) {
    if (near) rows[thread] = image(work.rows, row_block + thread);
    numbers[thread] = row_numbers(work.rows, row_block + thread);
  }
  __syncthreads();
  const long long corner = (long long)BLOCK * blockIdx.y * width + BLOCK * blockIdx.x;
  tile += corner;
  if (halves) halves += corner / EACH;
  const bool ragged =
      row_block + BLOCK > work.rows.size || column_block + BLOCK > work.columns.size;
  if (near && ragged)
    differentiate<true, MINED, true>(work, tile, halves, row_block, column_block, width, rows,
                                     numbers);
  else if (near)
    differentiate<true, MINED, false>(work, tile, halves, row_block, column_block, width, rows,
                                      numbers);
  else if (ragged)
    differentiate<false, MINED, true>(work, tile, halves, row_block, column_block, width, rows,
                                      numbers);
  else
    differentiate<false, MINED, false>(work, tile, halves, row_block, column_block, width, rows,
                                       numbers);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gradient(const Work work, float* tile, uint2* halves, int first_row, int first_column,
             int width) {
  gradient_tile<false>(work, tile, halves, first_row, first_column, width);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    mined_gradient(const Work work, float* tile, uint2* halves, int first_row,
                   int first_column, int width) {
  gradient_tile<true>(work, tile, halves, first_row, first_column, width);
}
