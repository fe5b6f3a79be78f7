// Batch norm, ReLU and the addition before a ReLU, each in as few passes over memory as it takes.
//
// A small network spends nearly half of a training step on these, and that half on waiting for
// memory: Paddle computes them one by one. Here a batch norm and its ReLU are one pass forward
// after the statistics, and one backward after the sums; which values the ReLU let through is
// computed again from x and not read. Maps are float32, [N, C, H, W] in Paddle's plain order.

#include <cmath>
#include <vector>

#include "tensors.h"

namespace {

// NaN passes, so that a loss that is no number still shows.
inline float Relu(float value) { return value < 0 ? 0 : value; }

struct MapsByChannel : Maps {
  using Maps::Maps;

  // Calls visit(channel, offset of the map) for every map; all maps of a channel in one thread
  // and in the order of the samples, so that sums do not depend on the number of threads.
  template <typename Visit>
  void ForEach(Visit visit) const {
#pragma omp parallel
    {
      const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
      const int64_t begin = channels * thread / threads,
                    end = channels * (thread + 1) / threads;
      for (int64_t n = 0; n < samples; ++n) {
        for (int64_t c = begin; c < end; ++c) visit(c, (n * channels + c) * pixels);
      }
    }
  }
};

// y = (x - mean) * scale + bias. Not x * scale + shift: a mean far above the deviation would cost
// digits.
struct Affine {
  std::vector<float> mean, scale, bias;

  Affine(const float* means, const float* inverse, const Tensor& weight, const Tensor& offset)
      : mean(means, means + weight.numel()),
        scale(weight.data<float>(), weight.data<float>() + weight.numel()),
        bias(offset.data<float>(), offset.data<float>() + offset.numel()) {
    for (size_t c = 0; c < scale.size(); ++c) scale[c] *= inverse[c];
  }
};

void Normalise(const MapsByChannel& maps, const Affine& affine, bool relu, const float* x, float* y) {
  maps.ForEach([&](int64_t c, int64_t start) {
    const float mean = affine.mean[c], scale = affine.scale[c], bias = affine.bias[c];
    const float* in = x + start;
    float* out = y + start;
    const int64_t pixels = maps.pixels;
    if (relu) {
#pragma omp simd
      for (int64_t i = 0; i < pixels; ++i) out[i] = Relu((in[i] - mean) * scale + bias);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < pixels; ++i) out[i] = (in[i] - mean) * scale + bias;
    }
  });
}

// Mean and (biased) variance of every channel. Within a map around the map's own mean, then the
// maps' means around the channel's: no difference of large squares.
void Statistics(const MapsByChannel& maps, const float* x, float* mean, float* variance) {
  std::vector<double> sum(maps.channels), sum_of_squares(maps.channels), inner(maps.channels);
  maps.ForEach([&](int64_t c, int64_t start) {
    const float* in = x + start;
    const int64_t pixels = maps.pixels;
    float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < pixels; ++i) total += in[i];
    const float own = total / maps.pixels;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < pixels; ++i) squares += (in[i] - own) * (in[i] - own);
    sum[c] += own;
    sum_of_squares[c] += double(own) * own;
    inner[c] += squares;
  });
  for (int64_t c = 0; c < maps.channels; ++c) {
    double middle = sum[c] / maps.samples;
    double between = sum_of_squares[c] / maps.samples - middle * middle;
    mean[c] = middle;
    variance[c] = inner[c] / (maps.samples * maps.pixels) + (between > 0 ? between : 0);
  }
}

std::vector<float> Inverse(const float* variance, int64_t channels, float epsilon) {
  std::vector<float> inverse(channels);
  for (int64_t c = 0; c < channels; ++c) inverse[c] = 1 / std::sqrt(variance[c] + epsilon);
  return inverse;
}

// The running statistics are updated where they lie, as Paddle's own kernel does.
void Follow(const Tensor& running, const float* now, float momentum) {
  float* values = const_cast<float*>(running.data<float>());
  for (int64_t c = 0; c < running.numel(); ++c) {
    values[c] = values[c] * momentum + now[c] * (1 - momentum);
  }
}

std::vector<Tensor> BatchNorm(const Tensor& input, const Tensor& weight, const Tensor& bias,
                              const Tensor& running_mean, const Tensor& running_variance,
                              float epsilon, float momentum, bool training, bool relu) {
  const Tensor x = InOrder(input);
  const MapsByChannel maps(x);
  Tensor y = Like(x), mean = Like(running_mean), variance = Like(running_mean);
  const float *m = running_mean.data<float>(), *v = running_variance.data<float>();
  if (training) {
    Statistics(maps, x.data<float>(), mean.data<float>(), variance.data<float>());
    m = mean.data<float>(), v = variance.data<float>();
    Follow(running_mean, m, momentum);
    Follow(running_variance, v, momentum);
  }
  const Affine affine(m, Inverse(v, maps.channels, epsilon).data(), weight, bias);
  Normalise(maps, affine, relu, x.data<float>(), y.data<float>());
  return {y, mean, variance};
}

// Of the training mode, where x has a part in the statistics.
std::vector<Tensor> BatchNormGrad(const Tensor& input, const Tensor& weight, const Tensor& bias,
                                  const Tensor& mean, const Tensor& variance,
                                  const Tensor& upstream, float epsilon, float momentum,
                                  bool training, bool relu) {
  const Tensor x = InOrder(input), dy = InOrder(upstream);
  const MapsByChannel maps(x);
  Tensor dx = Like(x), dweight = Like(weight), dbias = Like(bias);
  const auto inverse = Inverse(variance.data<float>(), maps.channels, epsilon);
  const Affine affine(mean.data<float>(), inverse.data(), weight, bias);
  const float *xs = x.data<float>(), *dys = dy.data<float>();
  // Where nothing was cut off, no value lies below this floor.
  const float floor = relu ? 0 : -INFINITY;

  std::vector<double> sum(maps.channels), moment(maps.channels);
  maps.ForEach([&](int64_t c, int64_t start) {
    const float middle = affine.mean[c], scale = affine.scale[c], offset = affine.bias[c];
    const float *in = xs + start, *upstream = dys + start;
    const int64_t pixels = maps.pixels;
    const float cut = floor;
    float total = 0, weighted = 0;
#pragma omp simd reduction(+ : total, weighted)
    for (int64_t i = 0; i < pixels; ++i) {
      const float centred = in[i] - middle, gradient = upstream[i];
      const float passed = centred * scale + offset > cut ? gradient : 0;
      total += passed;
      weighted += passed * centred;
    }
    sum[c] += total;
    moment[c] += weighted;
  });

  const double count = maps.samples * maps.pixels;
  std::vector<float> constant(maps.channels), slope(maps.channels);
  for (int64_t c = 0; c < maps.channels; ++c) {
    dbias.data<float>()[c] = sum[c];
    dweight.data<float>()[c] = moment[c] * inverse[c];
    constant[c] = sum[c] / count;
    slope[c] = moment[c] / count * inverse[c] * inverse[c];
  }
  float* dxs = dx.data<float>();
  maps.ForEach([&](int64_t c, int64_t start) {
    const float middle = affine.mean[c], scale = affine.scale[c], offset = affine.bias[c];
    const float even = constant[c], tilt = slope[c], cut = floor;
    const float *in = xs + start, *upstream = dys + start;
    float* out = dxs + start;
    const int64_t pixels = maps.pixels;
#pragma omp simd
    for (int64_t i = 0; i < pixels; ++i) {
      const float centred = in[i] - middle, gradient = upstream[i];
      const float passed = centred * scale + offset > cut ? gradient : 0;
      out[i] = (passed - even - centred * tilt) * scale;
    }
  });
  return {dx, dweight, dbias};
}

// relu(x + other), or relu(x) where ``other`` has no elements.
std::vector<Tensor> AddRelu(const Tensor& input, const Tensor& other) {
  const Tensor x = InOrder(input), added = InOrder(other);
  Tensor y = Like(x);
  const float *a = x.data<float>(), *b = added.data<float>();
  float* out = y.data<float>();
  if (added.numel() > 0) {
#pragma omp parallel for simd
    for (int64_t i = 0; i < x.numel(); ++i) out[i] = Relu(a[i] + b[i]);
  } else {
#pragma omp parallel for simd
    for (int64_t i = 0; i < x.numel(); ++i) out[i] = Relu(a[i]);
  }
  return {y};
}

std::vector<Tensor> AddReluGrad(const Tensor& other, const Tensor& y, const Tensor& gradient) {
  const Tensor dy = InOrder(gradient);
  Tensor dx = Like(y), dother = Like(other);
  const float *out = y.data<float>(), *dys = dy.data<float>();
  float *first = dx.data<float>(), *second = dother.data<float>();
  if (dother.numel() > 0) {  // two buffers of equal values: Paddle may add to either in place
#pragma omp parallel for simd
    for (int64_t i = 0; i < y.numel(); ++i) first[i] = second[i] = out[i] > 0 ? dys[i] : 0;
  } else {
#pragma omp parallel for simd
    for (int64_t i = 0; i < y.numel(); ++i) first[i] = out[i] > 0 ? dys[i] : 0;
  }
  return {dx, dother};
}

}  // namespace

PD_BUILD_OP(attn_blocks_batch_norm)
    .Inputs({"X", "Weight", "Bias", "RunningMean", "RunningVariance"})
    .Outputs({"Y", "Mean", "Variance"})
    .Attrs({"epsilon: float", "momentum: float", "training: bool", "relu: bool"})
    .SetKernelFn(PD_KERNEL(BatchNorm));

PD_BUILD_GRAD_OP(attn_blocks_batch_norm)
    .Inputs({"X", "Weight", "Bias", "Mean", "Variance", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Weight"), paddle::Grad("Bias")})
    .Attrs({"epsilon: float", "momentum: float", "training: bool", "relu: bool"})
    .SetKernelFn(PD_KERNEL(BatchNormGrad));

PD_BUILD_OP(attn_blocks_add_relu)
    .Inputs({"X", "Other"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(AddRelu));

PD_BUILD_GRAD_OP(attn_blocks_add_relu)
    .Inputs({"Other", "Y", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Other")})
    .SetKernelFn(PD_KERNEL(AddReluGrad));
