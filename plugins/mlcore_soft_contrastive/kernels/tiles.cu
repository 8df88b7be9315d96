// Elementwise work on one tile of similarities of the soft contrastive loss.
//
// Before this text stands `influence(float d, const double* parameters)`, made from the
// influence function's C expression; with WEIGHS_HEADINGS defined, `influence(float d, float h,
// const double* parameters)`, where h is the difference of headings. The same bytes compile for the GPU (NVRTC) and, behind
// a small shim, as C++ for the host, where the tests run them.
//
// A block of 32 x 8 threads covers 32 columns and 32 rows of the tile. What a block finds
// for its rows and columns it writes to its own place in `row_results` (2, grid.x, rows)
// and `column_results` (2, grid.y, columns), which the caller reduces: no atomics, so that
// every run gives the same bits.

#define BLOCK 32
#define THREADS_Y 8
#define ROWS_PER_THREAD (BLOCK / THREADS_Y)

// The rows, or the columns, of the whole matrix; see KernelBackend for the layout.
struct Side {
  const float* high;         // (3, size) metres, centred
  const float* low;          // (3, size), what is missing in `high`
  const double* exact;       // (3, size)
  const double* heading;     // (size) in [0, 2 pi), or null if headings do not matter
  const float* below;        // (size) attracting pairs with p below this are kept
  const float* above;        // (size) repelling pairs with n above this are kept
  const float* attraction;   // (size) t in mining, the row's factor in backward
  const float* repulsion;    // (size) the row's factor in backward
  const long long* own;      // (size) the column that is the row itself, negative for none
  long long size;
};

struct Rule {
  double support_m, repulsion_start_m, heading_limit_rad, support_rad;
  float edge_m;  // within this of support or repulsion start, float64 decides
  float alpha, beta, base;
  bool plain;
  const double* influence;
};

struct Pair {
  float plus, minus;  // attraction and repulsion; plus - 1 for an image with itself
  bool attracts, repels, same;
};

static __device__ Side read_side(const long long* words) {
  Side side;
  side.high = (const float*)words[0];
  side.low = (const float*)words[1];
  side.exact = (const double*)words[2];
  side.heading = (const double*)words[3];
  side.below = (const float*)words[4];
  side.above = (const float*)words[5];
  side.attraction = (const float*)words[6];
  side.repulsion = (const float*)words[7];
  side.own = (const long long*)words[8];
  side.size = words[9];
  return side;
}

static __device__ Rule read_rule(const double* numbers) {
  Rule rule;
  rule.support_m = numbers[0];
  rule.repulsion_start_m = numbers[1];
  rule.heading_limit_rad = numbers[2];
  rule.edge_m = (float)numbers[3];
  rule.alpha = (float)numbers[4];
  rule.beta = (float)numbers[5];
  rule.base = (float)numbers[6];
  rule.plain = numbers[7] != 0.0;
  rule.support_rad = numbers[8];
  rule.influence = numbers + 9;
  return rule;
}

static __device__ float distance_m(const Side& rows, const Side& columns, long long i,
                                   long long j) {
  float squared = 0.0f;
  for (int axis = 0; axis < 3; ++axis) {
    const long long a = axis * rows.size + i, b = axis * columns.size + j;
    const float difference = (rows.high[a] - columns.high[b]) + (rows.low[a] - columns.low[b]);
    squared += difference * difference;
  }
  return sqrtf(squared);
}

static __device__ double exact_distance_m(const Side& rows, const Side& columns, long long i,
                                          long long j) {
  double squared = 0.0;
  for (int axis = 0; axis < 3; ++axis) {
    const double difference =
        rows.exact[axis * rows.size + i] - columns.exact[axis * columns.size + j];
    // Not fused: rounded as everywhere else, so that a tie is one everywhere.
    squared = __dadd_rn(squared, __dmul_rn(difference, difference));
  }
  return sqrt(squared);
}

static __device__ double turn_rad(const Side& rows, const Side& columns, long long i,
                                  long long j) {
  const double turn = fabs(rows.heading[i] - columns.heading[j]);
  const double other = 6.283185307179586 - turn;
  return turn < other ? turn : other;
}

// Return d, moved to the side of an edge on which float64 says that it is.
static __device__ float on_side(float d, float edge_m, bool beyond) {
  return beyond ? fmaxf(d, edge_m) : fminf(d, nextafterf(edge_m, 0.0f));
}

static __device__ Pair weigh(const Side& rows, const Side& columns, const Rule& rule,
                             long long i, long long j, bool near_tile) {
  Pair pair = {0.0f, 1.0f, false, true, rows.own[i] == j};
  if (!near_tile) return pair;
  float d = distance_m(rows, columns, i, j);
  bool near = d < (float)rule.support_m;
  bool repels = d > (float)rule.repulsion_start_m || !near;
  if (fabsf(d - (float)rule.support_m) < rule.edge_m ||
      fabsf(d - (float)rule.repulsion_start_m) < rule.edge_m) {
    const double exact = exact_distance_m(rows, columns, i, j);
    near = exact < rule.support_m;
    repels = exact > rule.repulsion_start_m || !near;
    d = on_side((float)exact, (float)rule.support_m, !near);
    d = on_side(d, (float)rule.repulsion_start_m, exact > rule.repulsion_start_m);
  }
#ifdef WEIGHS_HEADINGS
  const double turn = turn_rad(rows, columns, i, j);
  near = near && turn < rule.support_rad;
  repels = repels || !near;
  pair.plus = near ? influence(d, (float)turn, rule.influence) : 0.0f;
#else
  pair.plus = near ? influence(d, rule.influence) : 0.0f;
#endif
  pair.minus = 1.0f - pair.plus;
  pair.attracts = near && !pair.same;
  pair.repels = repels;
  if (near && rows.heading && turn_rad(rows, columns, i, j) > rule.heading_limit_rad) {
    pair.plus = pair.minus = 0.0f;
    pair.attracts = pair.repels = false;
  }
  if (pair.same) pair.plus -= 1.0f;
  return pair;
}

struct Add {
  static __device__ float of(float a, float b) { return a + b; }
};

struct Largest {
  static __device__ float of(float a, float b) { return fmaxf(a, b); }
};

// Combine a value of all 32 columns of a block's row; every lane gets the result.
template <class Combine>
static __device__ float over_row(float value) {
  for (int mask = BLOCK / 2; mask > 0; mask /= 2)
    value = Combine::of(value, __shfl_xor_sync(0xffffffffu, value, mask));
  return value;
}

// Combine a value of all rows of a block's column; threads of the first row get it.
template <class Combine>
static __device__ float over_column(float value) {
  __shared__ float partial[THREADS_Y][BLOCK];
  partial[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.y == 0)
    for (int k = 1; k < THREADS_Y; ++k) value = Combine::of(value, partial[k][threadIdx.x]);
  __syncthreads();
  return value;
}

// Walk this thread's pairs. `visit(s, i, j, row, column)` turns similarity s of sorted row i
// and column j into two numbers for the row and two for the column.
template <class Combine, class Visit>
static __device__ void reduce_tile(const float* tile, int first_row, int first_column,
                                   int num_rows, int num_columns, float* row_results,
                                   float* column_results, Visit visit) {
  const int x = blockIdx.x * BLOCK + threadIdx.x;
  float column[2] = {0.0f, 0.0f};
  for (int k = 0; k < ROWS_PER_THREAD; ++k) {
    const int y = blockIdx.y * BLOCK + k * THREADS_Y + threadIdx.y;
    float row[2] = {0.0f, 0.0f};
    if (x < num_columns && y < num_rows) {
      float of_column[2] = {0.0f, 0.0f};
      const float s = fmaxf(tile[(long long)y * num_columns + x], 0.0f);
      visit(s, (long long)first_row + y, (long long)first_column + x, row, of_column);
      for (int m = 0; m < 2; ++m) column[m] = Combine::of(column[m], of_column[m]);
    }
    for (int m = 0; m < 2; ++m) {
      row[m] = over_row<Combine>(row[m]);
      if (threadIdx.x == 0 && y < num_rows)
        row_results[((long long)m * gridDim.x + blockIdx.x) * num_rows + y] = row[m];
    }
  }
  for (int m = 0; m < 2; ++m) {
    const float combined = over_column<Combine>(column[m]);
    if (threadIdx.y == 0 && x < num_columns)
      column_results[((long long)m * gridDim.y + blockIdx.y) * num_columns + x] = combined;
  }
}

// Mining, first step: each row's and column's largest p.
extern "C" __global__ void most_attracting(float* tile, const long long* row_words,
                                           const long long* column_words,
                                           const double* numbers, int first_row,
                                           int first_column, int num_rows, int num_columns,
                                           int near_tile, int symmetric, float* row_results,
                                           float* column_results) {
  const Side rows = read_side(row_words), columns = read_side(column_words);
  const Rule rule = read_rule(numbers);
  reduce_tile<Largest>(tile, first_row, first_column, num_rows, num_columns, row_results,
                       column_results,
                       [&](float s, long long i, long long j, float* row, float* column) {
                         const Pair pair = weigh(rows, columns, rule, i, j, near_tile);
                         row[0] = column[0] = fmaxf(pair.plus * s, 0.0f);
                       });
}

// Mining, second step: the largest n, and the largest (t - s) w+.
extern "C" __global__ void mining_extrema(float* tile, const long long* row_words,
                                          const long long* column_words,
                                          const double* numbers, int first_row,
                                          int first_column, int num_rows, int num_columns,
                                          int near_tile, int symmetric, float* row_results,
                                          float* column_results) {
  const Side rows = read_side(row_words), columns = read_side(column_words);
  const Rule rule = read_rule(numbers);
  reduce_tile<Largest>(tile, first_row, first_column, num_rows, num_columns, row_results,
                       column_results,
                       [&](float s, long long i, long long j, float* row, float* column) {
                         const Pair pair = weigh(rows, columns, rule, i, j, near_tile);
                         row[0] = column[0] = pair.minus * s;
                         row[1] = fmaxf((rows.attraction[i] - s) * pair.plus, 0.0f);
                         column[1] = fmaxf((columns.attraction[j] - s) * pair.plus, 0.0f);
                       });
}

// The sums over attracting and over repelling pairs.
extern "C" __global__ void sums(float* tile, const long long* row_words,
                                const long long* column_words, const double* numbers,
                                int first_row, int first_column, int num_rows,
                                int num_columns, int near_tile, int symmetric,
                                float* row_results, float* column_results) {
  const Side rows = read_side(row_words), columns = read_side(column_words);
  const Rule rule = read_rule(numbers);
  reduce_tile<Add>(tile, first_row, first_column, num_rows, num_columns, row_results,
                   column_results,
                   [&](float s, long long i, long long j, float* row, float* column) {
                     const Pair pair = weigh(rows, columns, rule, i, j, near_tile);
                     const float p = pair.plus * s, n = pair.minus * s;
                     if (pair.attracts) {
                       const float e = rule.plain ? p : expf(rule.alpha * (rule.base - p));
                       row[0] = p < rows.below[i] ? e : 0.0f;
                       column[0] = p < columns.below[j] ? e : 0.0f;
                     }
                     if (pair.repels) {
                       const float e = rule.plain ? n : expf(rule.beta * (n - rule.base));
                       row[1] = n > rows.above[i] ? e : 0.0f;
                       column[1] = n > columns.above[j] ? e : 0.0f;
                     }
                   });
}

// Backward: the derivative by each similarity, written over the tile.
extern "C" __global__ void gradient(float* tile, const long long* row_words,
                                    const long long* column_words, const double* numbers,
                                    int first_row, int first_column, int num_rows,
                                    int num_columns, int near_tile, int symmetric,
                                    float* row_results, float* column_results) {
  const Side rows = read_side(row_words), columns = read_side(column_words);
  const Rule rule = read_rule(numbers);
  const int x = blockIdx.x * BLOCK + threadIdx.x;
  for (int k = 0; k < ROWS_PER_THREAD; ++k) {
    const int y = blockIdx.y * BLOCK + k * THREADS_Y + threadIdx.y;
    if (x >= num_columns || y >= num_rows) continue;
    float& cell = tile[(long long)y * num_columns + x];
    const long long i = (long long)first_row + y, j = (long long)first_column + x;
    const Pair pair = weigh(rows, columns, rule, i, j, near_tile);
    const float s = fmaxf(cell, 0.0f), p = pair.plus * s, n = pair.minus * s;
    float attracting = 0.0f, repelling = 0.0f;
    if (pair.attracts) {
      float factor = p < rows.below[i] ? rows.attraction[i] : 0.0f;
      if (symmetric && p < columns.below[j]) factor += columns.attraction[j];
      attracting = pair.plus * factor;
      if (!rule.plain) attracting *= expf(rule.alpha * (rule.base - p));
    }
    if (pair.repels) {
      float factor = n > rows.above[i] ? rows.repulsion[i] : 0.0f;
      if (symmetric && n > columns.above[j]) factor += columns.repulsion[j];
      repelling = pair.minus * factor;
      if (!rule.plain) repelling *= expf(rule.beta * (n - rule.base));
    }
    cell = s > 0.0f && !pair.same ? repelling - attracting : 0.0f;
  }
}
