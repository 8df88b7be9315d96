// What the tiled soft contrastive loss does once per image rather than per pair: order along a
// curve, unit embeddings, thresholds, sums, terms, and the way back.
//
// Rows are padded with zeros to a multiple of BLOCK, so that every tile is whole.

#define BLOCK 128

// An edge in float32: values at or beyond `at` are beyond it, those up to `below` are not.
struct Edge {
  float at, below;
};

struct Rule {
  double support_m, start_m, support_rad, limit_rad, epsilon;
  float edge_m;       // within this of support or repulsion start, float64 decides
  float far_squared;  // square of the support, rounded upwards
  float alpha, beta;  // times log2(e), as exponents are powers of 2
  float base;
  Edge support, start, turn_support, turn_limit;
  float influence[PARAMETERS];
};

// The rows, or the columns, of the whole matrix, along the curve.
struct Side {
  const float4* place;     // x, y in metres, centred; z, w: what is missing in x, y
  const float2* height;    // the third coordinate likewise, of 3-D positions
  const double* exact;     // (padded, COORDINATES), as given
  const float2* heading;   // in [0, 2 pi), and what is missing
  const double* exact_heading;
  const int* region;
  const int* own;          // the column that is the row itself, or far below 0; null: row i is
  const float4* box;       // two corners of every BLOCK rows; in w, least and largest region
  float2* keep;            // attracting pairs with p < x, and repelling ones with n > y
  float* most_attracting;  // t in mining
  float2* factor;          // in backward, what attracting and repelling pairs are multiplied by
  double2* sums;           // over attracting and over repelling pairs
  int size, padded;
};

struct Work {
  Rule rule;
  Side rows, columns;
  float2* row_partial;     // (column blocks of a tile, its rows)
  float2* column_partial;  // (row blocks of a tile, its columns)
};

// What place_rows reads, in the order of the batch, and writes along the curve.
struct Places {
  const double* position_m;  // (size, COORDINATES)
  const double* heading_rad;
  const long long* region;   // numbered from 0
  const long long* order;
  const double *lower_m, *upper_m;  // (COORDINATES) of all columns
  float4* place;
  float2* height;
  double* exact;
  float2* heading;
  double* exact_heading;
  int* region_of_row;
  float4* box;
  float2* keep;
  float* most_attracting;
  double2* sums;
  float2* factor;
  int size;
  float below, above;  // to begin with
};

static __device__ __forceinline__ float4 row_numbers(const Side& side, int i) {
  const float2 keep = side.keep[i], factor = side.factor[i];
  return make_float4(keep.x, keep.y, factor.x, factor.y);
}

// keys (size) = place along a Hilbert curve of 2^16 x 2^16 cells, region after region.
extern "C" __global__ void curve_keys(const double* position_m, const long long* region,
                                      const double* lower_m, const double* upper_m,
                                      long long* keys, int size) {
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i >= size) return;
  double extent = fmax(upper_m[0] - lower_m[0], upper_m[1] - lower_m[1]);
  extent = fmax(extent, 1e-9);
  int x = (int)((position_m[(long long)COORDINATES * i] - lower_m[0]) / extent * 65535.0);
  int y = (int)((position_m[(long long)COORDINATES * i + 1] - lower_m[1]) / extent * 65535.0);
  long long key = region ? region[i] : 0;
  for (int bit = 15; bit >= 0; --bit) {
    const int right = (x >> bit) & 1, upper = (y >> bit) & 1, side = (1 << bit) - 1;
    key = (key << 2) | ((3 * right) ^ upper);
    x &= side;
    y &= side;
    if (upper == 0) {
      // Turn the quadrant so that the curve enters and leaves it at the same corners.
      const int turned = right ? side - x : x;
      x = right ? side - y : y;
      y = turned;
    }
  }
  keys[i] = key;
}

static __device__ __forceinline__ float2 split(double value) {
  const float high = (float)value;
  return make_float2(high, (float)(value - high));
}

// Sort places along the curve; start the state; box every BLOCK rows. Blocks of BLOCK threads.
extern "C" __global__ void place_rows(const Places p) {
  __shared__ float4 lower[BLOCK], upper[BLOCK];
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  const bool inside = i < p.size;
  const long long from = inside ? p.order[i] : 0;
  double centred[3] = {0.0, 0.0, 0.0};
  for (int axis = 0; axis < COORDINATES; ++axis) {
    const double value = inside ? p.position_m[COORDINATES * from + axis] : 0.0;
    p.exact[(long long)COORDINATES * i + axis] = value;
    const double origin = p.lower_m[axis] + 0.5 * (p.upper_m[axis] - p.lower_m[axis]);
    if (inside) centred[axis] = value - origin;
  }
  const float2 x = split(centred[0]), y = split(centred[1]);
  p.place[i] = make_float4(x.x, y.x, x.y, y.y);
#if COORDINATES == 3
  p.height[i] = split(centred[2]);
#endif
#if HEADINGS
  // As torch.remainder: never negative.
  double heading = inside ? fmod(p.heading_rad[from], 6.283185307179586) : 0.0;
  if (heading < 0.0) heading += 6.283185307179586;
  p.heading[i] = split(heading);
  p.exact_heading[i] = heading;
#endif
  float region = 0.0f;
#ifdef REGIONS
  p.region_of_row[i] = inside ? (int)p.region[from] : -1;
  region = (float)p.region_of_row[i];
#endif
  p.keep[i] = make_float2(p.below, p.above);
  p.most_attracting[i] = 0.0f;
  p.sums[i] = make_double2(0.0, 0.0);
  p.factor[i] = make_float2(0.0f, 0.0f);
  // Padding makes no box larger: the first row of a block is never padding.
  lower[threadIdx.x] = upper[threadIdx.x] = make_float4(1e38f, 1e38f, 1e38f, 1e38f);
  if (inside) {
    lower[threadIdx.x] = make_float4(__double2float_rd(centred[0]), __double2float_rd(centred[1]),
                                     __double2float_rd(centred[2]), region);
    upper[threadIdx.x] = make_float4(__double2float_ru(centred[0]), __double2float_ru(centred[1]),
                                     __double2float_ru(centred[2]), region);
  }
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    const int other = threadIdx.x + half;
    if (threadIdx.x < half && blockIdx.x * BLOCK + other < p.size) {
      const float4 a = lower[threadIdx.x], b = lower[other];
      lower[threadIdx.x] =
          make_float4(fminf(a.x, b.x), fminf(a.y, b.y), fminf(a.z, b.z), fminf(a.w, b.w));
      const float4 c = upper[threadIdx.x], d = upper[other];
      upper[threadIdx.x] =
          make_float4(fmaxf(c.x, d.x), fmaxf(c.y, d.y), fmaxf(c.z, d.z), fmaxf(c.w, d.w));
    }
  }
  if (threadIdx.x == 0) {
    p.box[2 * blockIdx.x] = lower[0];
    p.box[2 * blockIdx.x + 1] = upper[0];
  }
}

static __device__ __forceinline__ float over_warp(float value, bool largest) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, mask);
    value = largest ? fmaxf(value, other) : value + other;
  }
  return value;
}

// unit (padded, dim) = rows of x along the curve, divided by their norms; zero rows stay zero.
// scale (padded): by what a row was divided, in two factors. Blocks of 32 x 8: a warp per row.
extern "C" __global__ void unit_rows(const float* x, const long long* order, float* unit,
                                     float2* scale, int size, int dim) {
  const int i = blockIdx.x * 8 + threadIdx.y, lane = threadIdx.x;
  float* to = unit + (long long)i * dim;
  if (i >= size) {
    for (int k = lane; k < dim; k += 32) to[k] = 0.0f;
    return;
  }
  const float* from = x + order[i] * dim;
  float squared = 0.0f;
  for (int k = lane; k < dim; k += 32) squared = fmaf(from[k], from[k], squared);
  squared = over_warp(squared, false);
  float largest = 1.0f;
  if (!(squared > 1e-30f && squared < 1e30f)) {
    // Divided by its largest entry first, no row over- or underflows when squared.
    largest = 0.0f;
    for (int k = lane; k < dim; k += 32) largest = fmaxf(largest, fabsf(from[k]));
    largest = over_warp(largest, true);
    if (largest == 0.0f) largest = 1.0f;
    squared = 0.0f;
    for (int k = lane; k < dim; k += 32) {
      const float value = __fdiv_rn(from[k], largest);
      squared = fmaf(value, value, squared);
    }
    squared = over_warp(squared, false);
  }
  const float norm = squared > 0.0f ? __fsqrt_rn(squared) : 1.0f;
  for (int k = lane; k < dim; k += 32) to[k] = __fdiv_rn(__fdiv_rn(from[k], largest), norm);
  if (lane == 0) scale[i] = make_float2(largest, norm);
}

// The part of a gradient by a unit row that is orthogonal to the row.
static __device__ __forceinline__ float along(const float* gradient, const float* unit,
                                              int dim) {
  float total = 0.0f;
  for (int k = threadIdx.x; k < dim; k += 32) total = fmaf(gradient[k], unit[k], total);
  return over_warp(total, false);
}

// out (size, dim), in the order of the batch, from the gradient by the unit rows.
extern "C" __global__ void chain(const float* by_unit, const float* unit, const float2* scale,
                                 const long long* order, float* out, int size, int dim) {
  const int i = blockIdx.x * 8 + threadIdx.y;
  if (i >= size) return;
  const float *g = by_unit + (long long)i * dim, *u = unit + (long long)i * dim;
  const float radial = along(g, u, dim);
  const float2 by = scale[i];
  float* to = out + order[i] * dim;
  for (int k = threadIdx.x; k < dim; k += 32)
    to[k] = __fdiv_rn(__fdiv_rn(fmaf(-radial, u[k], g[k]), by.y), by.x);
}

// lengths (size) of those parts.
extern "C" __global__ void tangent_lengths(const float* by_unit, const float* unit,
                                           float* lengths, int size, int dim) {
  const int i = blockIdx.x * 8 + threadIdx.y;
  if (i >= size) return;
  const float *g = by_unit + (long long)i * dim, *u = unit + (long long)i * dim;
  const float radial = along(g, u, dim);
  float largest = 0.0f, squared = 0.0f;
  for (int k = threadIdx.x; k < dim; k += 32)
    largest = fmaxf(largest, fabsf(fmaf(-radial, u[k], g[k])));
  largest = over_warp(largest, true);
  if (largest > 0.0f)
    for (int k = threadIdx.x; k < dim; k += 32) {
      const float value = __fdiv_rn(fmaf(-radial, u[k], g[k]), largest);
      squared = fmaf(value, value, squared);
    }
  squared = over_warp(squared, false);
  if (threadIdx.x == 0) lengths[i] = largest * __fsqrt_rn(squared);
}

// Mining, when all near tiles are seen: extrema (least, max n) become thresholds.
extern "C" __global__ void settle(float2* keep, const float* most_attracting, double epsilon,
                                  int size) {
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i >= size) return;
  const float2 found = keep[i];
  // In float64, so that a threshold is rounded once.
  const double above = (double)most_attracting[i] - found.x - epsilon;
  keep[i] = make_float2((float)(found.y + epsilon), (float)above);
}

enum Reduction { kTakeAttracting, kTakeExtrema, kAddSums, kAddFar };
#define DIAGONAL 1
#define MIRRORED 2

static __device__ __forceinline__ void gather(const float2* partial, int stride, int first,
                                              int last, int step, double2* sum, float2* most) {
  for (int k = first; k < last; ++k) {
    const float2 found = partial[(long long)k * stride];
    if (step == kAddSums || step == kAddFar) sum->x += found.x;
    if (step == kAddSums) sum->y += found.y;
    most->x = fmaxf(most->x, found.x);
    most->y = fmaxf(most->y, found.y);
  }
}

// Take what the blocks of a tile found for row i of `side` into its state; return the largest
// similarity of a far tile that the row may keep.
static __device__ __forceinline__ float take(const Side& side, int i, int step, int mined,
                                             double epsilon, double2 sum, float2 most) {
  if (step == kTakeAttracting) {
    side.most_attracting[i] = fmaxf(side.most_attracting[i], most.x);
  } else if (step == kTakeExtrema) {
    const float2 before = side.keep[i];
    side.keep[i] = make_float2(fmaxf(before.x, most.x), fmaxf(before.y, most.y));
  } else if (step == kAddSums) {
    const double2 before = side.sums[i];
    side.sums[i] = make_double2(before.x + sum.x, before.y + sum.y);
  } else {
    side.sums[i].y += sum.x;
    if (!mined) return most.y;
    const float above = side.keep[i].y;
    side.keep[i].x = fmaxf(side.keep[i].x, (float)(most.y + epsilon));
    return most.y > above ? most.y : -1.0f;
  }
  return 0.0f;
}

// Reduce a tile's partial results in a fixed order. One thread per row, then one per column of
// a mirrored tile; rows and columns of a tile on the diagonal are the same images.
extern "C" __global__ void reduce(const Work work, int first_row, int first_column,
                                  int num_rows, int num_columns, int step, int flags,
                                  int mined, float* largest, int offset) {
  __shared__ float most_of[BLOCK];
  const int t = blockIdx.x * BLOCK + threadIdx.x;
  const int own_block = flags & DIAGONAL ? t / BLOCK : 0;
  double2 sum = make_double2(0.0, 0.0);
  float2 most = make_float2(0.0f, 0.0f);
  float kept = -1.0f;
  if (t < num_rows) {
    gather(work.row_partial + t, num_rows, own_block, num_columns / BLOCK, step, &sum, &most);
    if (flags & DIAGONAL)
      gather(work.column_partial + t, num_columns, 0, own_block, step, &sum, &most);
    const int i = first_row + t;
    if (i < work.rows.size)
      kept = take(work.rows, i, step, mined, work.rule.epsilon, sum, most);
  } else {
    const int c = t - num_rows, j = first_column + c;
    gather(work.column_partial + c, num_columns, 0, num_rows / BLOCK, step, &sum, &most);
    if (j < work.columns.size)
      kept = take(work.columns, j, step, mined, work.rule.epsilon, sum, most);
  }
  if (step != kAddFar) return;
  most_of[threadIdx.x] = kept;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      most_of[threadIdx.x] = fmaxf(most_of[threadIdx.x], most_of[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) largest[offset + blockIdx.x] = most_of[0];
}

// terms (2, size), in the order of the batch.
extern "C" __global__ void row_terms(const double2* sums, const long long* order, float* terms,
                                     double alpha, double beta, int size) {
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i >= size) return;
  const double2 sum = sums[i];
#ifdef PLAIN
  terms[order[i]] = (float)-sum.x;
  terms[size + order[i]] = (float)sum.y;
#else
  terms[order[i]] = (float)(log1p(sum.x) / alpha);
  terms[size + order[i]] = (float)(log1p(sum.y) / beta);
#endif
}

// With S = sum exp(z) a term is log(1 + S) / alpha, and its derivative by p is
// -e^z / (1 + S): what a row's pairs are multiplied by.
extern "C" __global__ void row_factors(const double2* sums, const long long* order,
                                       const float* by_attraction, const float* by_repulsion,
                                       float2* factor, int size) {
  const int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i >= size) return;
  double attraction = by_attraction[order[i]], repulsion = by_repulsion[order[i]];
#ifndef PLAIN
  attraction /= 1.0 + sums[i].x;
  repulsion /= 1.0 + sums[i].y;
#endif
  factor[i] = make_float2((float)attraction, (float)repulsion);
}
