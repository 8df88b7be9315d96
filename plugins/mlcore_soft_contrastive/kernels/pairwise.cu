// Pairwise Euclidean distances by differences, and their gradient.
//
// The same bytes compile for the GPU (NVRTC) and, behind a small shim, as C++ for the host.

#define TILE 64   // points of x and of y in a block's tile of distances
#define SIDE 16   // threads along each side of a block
#define EACH (TILE / SIDE)
#define DEPTH 16  // coordinates in shared memory at a time
#define GROUP 8   // coordinates of the gradient summed at a time
#define LANES 128 // threads of a gradient block

// Of few coordinates, out is written faster than tiles are loaded: a thread keeps four columns
// in registers and takes every eighth of 64 rows. Rows go by grid.x, which has no limit.
template <int DIM>
static __device__ __forceinline__ void few_coordinates(const float* x, const float* y,
                                                       float* out, int rows, int columns,
                                                       int squared) {
  const int first = blockIdx.y * 128 + threadIdx.x;
  float column[4][DIM];
  for (int k = 0; k < 4; ++k)
    for (int axis = 0; axis < DIM; ++axis)
      column[k][axis] =
          first + 32 * k < columns ? y[(long long)(first + 32 * k) * DIM + axis] : 0.0f;
  for (int r = threadIdx.y; r < TILE; r += 8) {
    const long long i = (long long)blockIdx.x * TILE + r;
    if (i >= rows) return;
    float row[DIM];
    for (int axis = 0; axis < DIM; ++axis) row[axis] = x[i * DIM + axis];
    for (int k = 0; k < 4; ++k) {
      float total = 0.0f;
      for (int axis = 0; axis < DIM; ++axis) {
        const float difference = row[axis] - column[k][axis];
        total += difference * difference;
      }
      const int j = first + 32 * k;
      if (j < columns) out[i * columns + j] = squared ? total : sqrtf(total);
    }
  }
}

// As pairwise_distance, for dim up to 4. Blocks of 32 x 8.
extern "C" __global__ void low_dimensional_distance(const float* x, const float* y, float* out,
                                                    int rows, int columns, int dim,
                                                    int squared) {
  if (dim == 1) few_coordinates<1>(x, y, out, rows, columns, squared);
  if (dim == 2) few_coordinates<2>(x, y, out, rows, columns, squared);
  if (dim == 3) few_coordinates<3>(x, y, out, rows, columns, squared);
  if (dim == 4) few_coordinates<4>(x, y, out, rows, columns, squared);
}

// out (rows, columns) = |x_i - y_j|; x is (rows, dim), y (columns, dim). Blocks of 16 x 16.
extern "C" __global__ void pairwise_distance(const float* x, const float* y, float* out,
                                             int rows, int columns, int dim, int squared) {
  __shared__ float xs[DEPTH][TILE + 1];
  __shared__ float ys[DEPTH][TILE + 1];
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  const int thread = threadIdx.y * SIDE + threadIdx.x;
  float total[EACH][EACH];
  for (int a = 0; a < EACH; ++a)
    for (int b = 0; b < EACH; ++b) total[a][b] = 0.0f;
  for (int first = 0; first < dim; first += DEPTH) {
    for (int k = thread; k < TILE * DEPTH; k += SIDE * SIDE) {
      const int point = k / DEPTH, depth = k % DEPTH, coordinate = first + depth;
      const int i = first_row + point, j = first_column + point;
      const bool inside = coordinate < dim;
      xs[depth][point] = inside && i < rows ? x[(long long)i * dim + coordinate] : 0.0f;
      ys[depth][point] = inside && j < columns ? y[(long long)j * dim + coordinate] : 0.0f;
    }
    __syncthreads();
    for (int depth = 0; depth < DEPTH; ++depth)
      for (int a = 0; a < EACH; ++a)
        for (int b = 0; b < EACH; ++b) {
          const float difference =
              xs[depth][a * SIDE + threadIdx.y] - ys[depth][b * SIDE + threadIdx.x];
          total[a][b] += difference * difference;
        }
    __syncthreads();
  }
  for (int a = 0; a < EACH; ++a)
    for (int b = 0; b < EACH; ++b) {
      const int i = first_row + a * SIDE + threadIdx.y;
      const int j = first_column + b * SIDE + threadIdx.x;
      if (i < rows && j < columns)
        out[(long long)i * columns + j] = squared ? total[a][b] : sqrtf(total[a][b]);
    }
}

// out (rows, dim) = sum_j weight_ij (x_i - y_j); weight is (rows, columns). One block of 128
// threads for each row and group of coordinates.
extern "C" __global__ void weighted_differences(const float* x, const float* y,
                                                const float* weight, float* out, int rows,
                                                int columns, int dim) {
  __shared__ float partial[LANES / 32][GROUP];
  const int i = blockIdx.x, first = blockIdx.y * GROUP, lane = threadIdx.x;
  float total[GROUP];
  for (int k = 0; k < GROUP; ++k) total[k] = 0.0f;
  for (int j = lane; j < columns; j += LANES) {
    const float w = weight[(long long)i * columns + j];
    for (int k = 0; k < GROUP && first + k < dim; ++k)
      total[k] += w * (x[(long long)i * dim + first + k] - y[(long long)j * dim + first + k]);
  }
  for (int k = 0; k < GROUP; ++k) {
    for (int mask = 16; mask > 0; mask /= 2)
      total[k] += __shfl_xor_sync(0xffffffffu, total[k], mask);
    if (lane % 32 == 0) partial[lane / 32][k] = total[k];
  }
  __syncthreads();
  if (lane < GROUP && first + lane < dim) {
    float sum = 0.0f;
    for (int warp = 0; warp < LANES / 32; ++warp) sum += partial[warp][lane];
    out[(long long)i * dim + first + lane] = sum;
  }
}
