// What the operators share.
#pragma once

#include <omp.h>

#include <cstdint>
#include <vector>

#include "paddle/phi/api/all.h"

namespace {

using paddle::Tensor;

// Paddle passes views (a transposed tensor, a slice) as they lie in memory.
inline Tensor InOrder(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : tensor.contiguous();
}

inline Tensor Empty(const std::vector<int64_t>& shape, const Tensor& like) {
  return paddle::empty(shape, like.dtype(), like.place());
}

inline Tensor Like(const Tensor& tensor) { return Empty(tensor.shape(), tensor); }

// The sizes of maps [N, C, H, W].
struct Maps {
  int64_t samples, channels, pixels;

  explicit Maps(const Tensor& x)
      : samples(x.shape()[0]), channels(x.shape()[1]), pixels(x.shape()[2] * x.shape()[3]) {}

  int64_t count() const { return samples * channels; }
};

}  // namespace
