// The steps of attention blocks that go over whole maps: means, deviations, gates, and the whole of
// shuffle attention, whose steps are all of that kind.
//
// Paddle has no kernel for one number a map that is fast on a CPU: the mean over two axes, and the
// gradient of what is broadcast over them, take longer than the convolutions around them. Here each
// step is one pass forward and one backward. Maps are float32, [N, C, H, W] in Paddle's plain order.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "tensors.h"

namespace {

float Sum(const float* x, int64_t pixels) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < pixels; ++i) sum += x[i];
  return sum;
}

float Product(const float* x, const float* y, int64_t pixels) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < pixels; ++i) sum += x[i] * y[i];
  return sum;
}

// 1 / (1 + exp(-x)) to float32 rounding, in a form that compilers vectorise, unlike the library's
// exp. exp(v) = 2^n exp(r) with |r| <= log(2) / 2, the latter by the polynomial of Moshier's Cephes
// (expf.c, https://www.netlib.org/cephes/). What is no number stays none.
inline float Sigmoid(float x) {
  float v = -x;
  v = v > 88 ? 88 : v;
  v = v < -87 ? -87 : v;
  constexpr float rounding = 3 << 22;  // adding it leaves no fraction
  const float n = (v * 1.44269504f + rounding) - rounding;
  const float r = v - n * 0.693359375f + n * 2.12194440e-4f;  // log(2) in two parts
  float series = 1.9875691500e-4f;
  for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                     5.0000001201e-1f, 1.0f, 1.0f}) {
    series = series * r + next;
  }
  const int32_t exponent = (int32_t(n) + 127) << 23;
  float power;
  std::memcpy(&power, &exponent, sizeof power);
  return 1 / (1 + series * power);
}

// The mean of every map, [N, C, 1, 1].
std::vector<Tensor> MapMean(const Tensor& input) {
  const Tensor x = InOrder(input);
  const Maps maps(x);
  Tensor mean = Empty({maps.samples, maps.channels, 1, 1}, x);
  const float* xs = x.data<float>();
  float* means = mean.data<float>();
#pragma omp parallel for
  for (int64_t m = 0; m < maps.count(); ++m) {
    means[m] = Sum(xs + m * maps.pixels, maps.pixels) / maps.pixels;
  }
  return {mean};
}

std::vector<Tensor> MapMeanGrad(const Tensor& x, const Tensor& upstream) {
  const Tensor dmean = InOrder(upstream);
  const Maps maps(x);
  Tensor dx = Like(x);
  const float* dmeans = dmean.data<float>();
  float* dxs = dx.data<float>();
#pragma omp parallel for
  for (int64_t m = 0; m < maps.count(); ++m) {
    std::fill_n(dxs + m * maps.pixels, maps.pixels, dmeans[m] / maps.pixels);
  }
  return {dx};
}

// Mean and unbiased variance of every map, two [N, C].
std::vector<Tensor> MapMoments(const Tensor& input) {
  const Tensor x = InOrder(input);
  const Maps maps(x);
  Tensor mean = Empty({maps.samples, maps.channels}, x), variance = Like(mean);
  const float* xs = x.data<float>();
  float *means = mean.data<float>(), *variances = variance.data<float>();
  const int64_t pixels = maps.pixels;
#pragma omp parallel for
  for (int64_t m = 0; m < maps.count(); ++m) {
    const float* in = xs + m * pixels;
    const float own = Sum(in, pixels) / pixels;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < pixels; ++i) squares += (in[i] - own) * (in[i] - own);
    means[m] = own;
    variances[m] = squares / (pixels - 1);
  }
  return {mean, variance};
}

std::vector<Tensor> MapMomentsGrad(const Tensor& input, const Tensor& mean, const Tensor& upstream,
                                   const Tensor& upstream_variance) {
  const Tensor x = InOrder(input), dmean = InOrder(upstream), dvar = InOrder(upstream_variance);
  const Maps maps(x);
  Tensor dx = Like(x);
  const float *xs = x.data<float>(), *means = mean.data<float>();
  const float *dmeans = dmean.data<float>(), *dvariances = dvar.data<float>();
  float* dxs = dx.data<float>();
  const int64_t pixels = maps.pixels;
#pragma omp parallel for
  for (int64_t m = 0; m < maps.count(); ++m) {
    const float even = dmeans[m] / pixels, slope = 2 * dvariances[m] / (pixels - 1);
    const float own = means[m];
    const float* in = xs + m * pixels;
    float* out = dxs + m * pixels;
#pragma omp simd
    for (int64_t i = 0; i < pixels; ++i) out[i] = even + (in[i] - own) * slope;
  }
  return {dx};
}

// The inner product of every map with its channel's weights [C, 1, H, W], [N, C, 1, 1]: a
// depth-wise convolution as large as the map.
std::vector<Tensor> MapProduct(const Tensor& input, const Tensor& weight) {
  const Tensor x = InOrder(input), w = InOrder(weight);
  const Maps maps(x);
  Tensor y = Empty({maps.samples, maps.channels, 1, 1}, x);
  const float *xs = x.data<float>(), *ws = w.data<float>();
  float* ys = y.data<float>();
  const int64_t pixels = maps.pixels;
#pragma omp parallel for
  for (int64_t m = 0; m < maps.count(); ++m) {
    ys[m] = Product(xs + m * pixels, ws + m % maps.channels * pixels, pixels);
  }
  return {y};
}

std::vector<Tensor> MapProductGrad(const Tensor& input, const Tensor& weight,
                                   const Tensor& upstream) {
  const Tensor x = InOrder(input), w = InOrder(weight), dy = InOrder(upstream);
  const Maps maps(x);
  Tensor dx = Like(x), dw = Like(w);
  const float *xs = x.data<float>(), *ws = w.data<float>(), *dys = dy.data<float>();
  float *dxs = dx.data<float>(), *dws = dw.data<float>();
  const int64_t pixels = maps.pixels;
  std::fill_n(dws, maps.channels * pixels, 0.0f);
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t begin = maps.channels * thread / threads;
    const int64_t end = maps.channels * (thread + 1) / threads;
    for (int64_t n = 0; n < maps.samples; ++n) {
      for (int64_t c = begin; c < end; ++c) {
        const int64_t map = n * maps.channels + c;
        const float gradient = dys[map];
        const float *in = xs + map * pixels, *own = ws + c * pixels;
        float *out = dxs + map * pixels, *sum = dws + c * pixels;
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) {
          out[i] = gradient * own[i];
          sum[i] += gradient * in[i];
        }
      }
    }
  }
  return {dx, dw};
}

// y = x * gate, with a gate for each of G groups of successive channels: [N, G, H, W], or
// [N, G, 1, 1] for all pixels alike.
struct Gates {
  Maps maps;
  int64_t rows, group;  // groups of all samples; channels of a group
  bool uniform;

  Gates(const Tensor& x, const Tensor& gate)
      : maps(x),
        rows(maps.samples * gate.shape()[1]),
        group(maps.channels / gate.shape()[1]),
        uniform(gate.shape()[2] * gate.shape()[3] == 1) {}

  // Calls visit(gate's offset, map's offset) for every map; those of a group in one thread and in
  // order, so that sums do not depend on the number of threads.
  template <typename Visit>
  void ForEach(Visit visit) const {
#pragma omp parallel for
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t c = 0; c < group; ++c) {
        visit(uniform ? row : row * maps.pixels, (row * group + c) * maps.pixels, c == 0);
      }
    }
  }
};

std::vector<Tensor> Gate(const Tensor& input, const Tensor& factor) {
  const Tensor x = InOrder(input), gate = InOrder(factor);
  const Gates gates(x, gate);
  Tensor y = Like(x);
  const float *xs = x.data<float>(), *gs = gate.data<float>();
  float* ys = y.data<float>();
  const int64_t pixels = gates.maps.pixels;
  gates.ForEach([&](int64_t at, int64_t start, bool) {
    const float *in = xs + start, *g = gs + at;
    float* out = ys + start;
    if (gates.uniform) {
      const float factor = *g;
#pragma omp simd
      for (int64_t i = 0; i < pixels; ++i) out[i] = in[i] * factor;
    } else {
#pragma omp simd
      for (int64_t i = 0; i < pixels; ++i) out[i] = in[i] * g[i];
    }
  });
  return {y};
}

std::vector<Tensor> GateGrad(const Tensor& input, const Tensor& factor, const Tensor& upstream) {
  const Tensor x = InOrder(input), gate = InOrder(factor), dy = InOrder(upstream);
  const Gates gates(x, gate);
  Tensor dx = Like(x), dgate = Like(gate);
  const float *xs = x.data<float>(), *gs = gate.data<float>(), *dys = dy.data<float>();
  float *dxs = dx.data<float>(), *dgs = dgate.data<float>();
  const int64_t pixels = gates.maps.pixels;
  gates.ForEach([&](int64_t at, int64_t start, bool first) {
    const float *in = xs + start, *g = gs + at, *d = dys + start;
    float *out = dxs + start, *sum = dgs + at;
    if (gates.uniform) {
      const float factor = *g;
      *sum = (first ? 0 : *sum) + Product(in, d, pixels);
#pragma omp simd
      for (int64_t i = 0; i < pixels; ++i) out[i] = d[i] * factor;
      return;
    }
    if (first) std::fill_n(sum, pixels, 0.0f);
#pragma omp simd
    for (int64_t i = 0; i < pixels; ++i) {
      sum[i] += in[i] * d[i];
      out[i] = d[i] * g[i];
    }
  });
  return {dx, dgate};
}

// Shuffle attention on [N, C, H, W] whose channels come in groups of 2m. The first m of a group are
// gated by a number each, y = x * sigmoid(scale * mean + shift), the others by pixel with the map's
// normalised values in place of its mean; scales and shifts are [m]. Then channels a1 a2 ... b1 b2
// ... (the halves of all channels) become a1 b1 a2 b2 ...
struct ShuffleAttention {
  Maps maps;
  int64_t half;  // m
  const float *cscale, *cshift, *sscale, *sshift;
  float epsilon;

  ShuffleAttention(const Tensor& x, const Tensor& cscale, const Tensor& cshift,
                   const Tensor& sscale, const Tensor& sshift, float epsilon)
      : maps(x),
        half(cscale.numel()),
        cscale(cscale.data<float>()),
        cshift(cshift.data<float>()),
        sscale(sscale.data<float>()),
        sshift(sshift.data<float>()),
        epsilon(epsilon) {}

  // Calls number(k, map, from, to) or pixel(k, map, from, to) for the maps of either kind: k of m,
  // the number of the map, and where it lies in x and in y.
  template <typename Number, typename Pixel>
  void ForEach(Number number, Pixel pixel) const {
#pragma omp parallel for
    for (int64_t map = 0; map < maps.count(); ++map) {
      const int64_t c = map % maps.channels, first = map - c, middle = maps.channels / 2;
      const int64_t target = c < middle ? 2 * c : 2 * (c - middle) + 1;
      const int64_t k = c % (2 * half), from = map * maps.pixels;
      const int64_t to = (first + target) * maps.pixels;
      k < half ? number(k, map, from, to) : pixel(k - half, map, from, to);
    }
  }

  float Number(int64_t k, float mean) const {
    return Sigmoid(cscale[k] * mean + cshift[k]);
  }

  // Mean and 1 / deviation of a map.
  std::pair<float, float> Normal(const float* x) const {
    const float mean = Sum(x, maps.pixels) / maps.pixels;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < maps.pixels; ++i) squares += (x[i] - mean) * (x[i] - mean);
    return {mean, 1 / std::sqrt(squares / maps.pixels + epsilon)};
  }
};

std::vector<Tensor> ShuffleAttend(const Tensor& input, const Tensor& cscale, const Tensor& cshift,
                                  const Tensor& sscale, const Tensor& sshift, float epsilon) {
  const Tensor x = InOrder(input);
  const ShuffleAttention block(x, cscale, cshift, sscale, sshift, epsilon);
  Tensor y = Like(x);
  const float* xs = x.data<float>();
  float* ys = y.data<float>();
  const int64_t pixels = block.maps.pixels;
  block.ForEach(
      [&](int64_t k, int64_t, int64_t from, int64_t to) {
        const float *in = xs + from, gate = block.Number(k, Sum(in, pixels) / pixels);
        float* out = ys + to;
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) out[i] = in[i] * gate;
      },
      [&](int64_t k, int64_t, int64_t from, int64_t to) {
        const float* in = xs + from;
        float* out = ys + to;
        const auto normal = block.Normal(in);
        const float mean = normal.first, shift = block.sshift[k];
        const float scale = block.sscale[k] * normal.second;
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) {
          out[i] = in[i] * Sigmoid((in[i] - mean) * scale + shift);
        }
      });
  return {y};
}

// The gradients of a map that is gated by pixel: dx is written; those of scale and shift returned.
std::pair<float, float> PixelGrad(const ShuffleAttention& block, int64_t k, const float* x,
                                  const float* dy, float* dx) {
  const int64_t pixels = block.maps.pixels;
  const auto normal = block.Normal(x);
  const float mean = normal.first, inverse = normal.second, shift = block.sshift[k];
  const float scale = block.sscale[k] * inverse;
  thread_local std::vector<float> inner;  // the gradient of what the sigmoid takes
  inner.resize(pixels);
  float *dz = inner.data(), total = 0, weighted = 0;
#pragma omp simd reduction(+ : total, weighted)
  for (int64_t i = 0; i < pixels; ++i) {
    const float centred = x[i] - mean, gate = Sigmoid(centred * scale + shift);
    dz[i] = dy[i] * x[i] * gate * (1 - gate);
    dx[i] = dy[i] * gate;
    total += dz[i];
    weighted += dz[i] * centred;
  }
  const float even = total / pixels, tilt = weighted * inverse * inverse / pixels;
#pragma omp simd
  for (int64_t i = 0; i < pixels; ++i) dx[i] += (dz[i] - even - (x[i] - mean) * tilt) * scale;
  return {weighted * inverse, total};
}

std::vector<Tensor> ShuffleAttendGrad(const Tensor& input, const Tensor& cscale,
                                      const Tensor& cshift, const Tensor& sscale,
                                      const Tensor& sshift, const Tensor& upstream,
                                      float epsilon) {
  const Tensor x = InOrder(input), dy = InOrder(upstream);
  const ShuffleAttention block(x, cscale, cshift, sscale, sshift, epsilon);
  Tensor dx = Like(x);
  const float *xs = x.data<float>(), *dys = dy.data<float>();
  float* dxs = dx.data<float>();
  const int64_t pixels = block.maps.pixels;
  // Those of scale and shift of each map; added up in order, so that the threads do not matter.
  std::vector<std::pair<float, float>> own(block.maps.count());
  block.ForEach(
      [&](int64_t k, int64_t map, int64_t from, int64_t to) {
        const float *in = xs + from, *d = dys + to;
        float* out = dxs + from;
        const float mean = Sum(in, pixels) / pixels, gate = block.Number(k, mean);
        const float dz = Product(in, d, pixels) * gate * (1 - gate);
        own[map] = {dz * mean, dz};
        const float even = dz * block.cscale[k] / pixels;
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) out[i] = d[i] * gate + even;
      },
      [&](int64_t k, int64_t map, int64_t from, int64_t to) {
        own[map] = PixelGrad(block, k, xs + from, dys + to, dxs + from);
      });
  Tensor sums[] = {Like(cscale), Like(cshift), Like(sscale), Like(sshift)};
  for (int64_t k = 0; k < 2 * block.half; ++k) {
    double scale = 0, shift = 0;
    for (int64_t map = k; map < block.maps.count(); map += 2 * block.half) {
      scale += own[map].first, shift += own[map].second;
    }
    const int64_t kind = k / block.half * 2, at = k % block.half;
    sums[kind].data<float>()[at] = scale, sums[kind + 1].data<float>()[at] = shift;
  }
  return {dx, sums[0], sums[1], sums[2], sums[3]};
}

}  // namespace

PD_BUILD_OP(attn_blocks_map_mean).Inputs({"X"}).Outputs({"Mean"}).SetKernelFn(PD_KERNEL(MapMean));

PD_BUILD_GRAD_OP(attn_blocks_map_mean)
    .Inputs({"X", paddle::Grad("Mean")})
    .Outputs({paddle::Grad("X")})
    .SetKernelFn(PD_KERNEL(MapMeanGrad));

PD_BUILD_OP(attn_blocks_map_moments)
    .Inputs({"X"})
    .Outputs({"Mean", "Variance"})
    .SetKernelFn(PD_KERNEL(MapMoments));

PD_BUILD_GRAD_OP(attn_blocks_map_moments)
    .Inputs({"X", "Mean", paddle::Grad("Mean"), paddle::Grad("Variance")})
    .Outputs({paddle::Grad("X")})
    .SetKernelFn(PD_KERNEL(MapMomentsGrad));

PD_BUILD_OP(attn_blocks_map_product)
    .Inputs({"X", "W"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(MapProduct));

PD_BUILD_GRAD_OP(attn_blocks_map_product)
    .Inputs({"X", "W", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("W")})
    .SetKernelFn(PD_KERNEL(MapProductGrad));

PD_BUILD_OP(attn_blocks_gate).Inputs({"X", "Gate"}).Outputs({"Y"}).SetKernelFn(PD_KERNEL(Gate));

PD_BUILD_GRAD_OP(attn_blocks_gate)
    .Inputs({"X", "Gate", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gate")})
    .SetKernelFn(PD_KERNEL(GateGrad));

PD_BUILD_OP(attn_blocks_shuffle_attention)
    .Inputs({"X", "NumberScale", "NumberShift", "PixelScale", "PixelShift"})
    .Outputs({"Y"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(ShuffleAttend));

PD_BUILD_GRAD_OP(attn_blocks_shuffle_attention)
    .Inputs({"X", "NumberScale", "NumberShift", "PixelScale", "PixelShift", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("NumberScale"), paddle::Grad("NumberShift"),
              paddle::Grad("PixelScale"), paddle::Grad("PixelShift")})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(ShuffleAttendGrad));
