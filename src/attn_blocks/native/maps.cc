// The steps of attention blocks that go over whole maps: means, deviations, gates and a shuffle.
//
// Paddle has no kernel for one number a map that is fast on a CPU: the mean over two axes, and the
// gradient of what is broadcast over them, take longer than the convolutions around them. Here each
// step is one pass forward and one backward. Maps are float32, [N, C, H, W] in Paddle's plain order.

#include <algorithm>
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

// Shuffle attention's last step. Of every group of 2m channels the first m are multiplied with one
// number each, the others with a map each; then channels a1 a2 ... b1 b2 ... (the halves of all
// channels) become a1 b1 a2 b2 ...
struct Shuffle {
  Maps maps;
  int64_t half;  // m

  Shuffle(const Tensor& x, const Tensor& numbers) : maps(x), half(numbers.shape()[1]) {}

  // Calls number(its index, x's offset, y's offset) or map(its offset, x's offset, y's offset).
  template <typename Number, typename Map>
  void ForEach(Number number, Map map) const {
    const int64_t middle = maps.channels / 2;
#pragma omp parallel for
    for (int64_t n = 0; n < maps.samples; ++n) {
      for (int64_t c = 0; c < maps.channels; ++c) {
        const int64_t target = c < middle ? 2 * c : 2 * (c - middle) + 1;
        const int64_t from = (n * maps.channels + c) * maps.pixels;
        const int64_t to = (n * maps.channels + target) * maps.pixels;
        const int64_t within = c % (2 * half);
        const int64_t gate = n * middle + c / (2 * half) * half + within % half;
        within < half ? number(gate, from, to) : map(gate * maps.pixels, from, to);
      }
    }
  }
};

std::vector<Tensor> ShuffleGate(const Tensor& input, const Tensor& numbers, const Tensor& factors) {
  const Tensor x = InOrder(input), number = InOrder(numbers), map = InOrder(factors);
  const Shuffle shuffle(x, number);
  Tensor y = Like(x);
  const float *xs = x.data<float>(), *ns = number.data<float>(), *ms = map.data<float>();
  float* ys = y.data<float>();
  const int64_t pixels = shuffle.maps.pixels;
  shuffle.ForEach(
      [&](int64_t gate, int64_t from, int64_t to) {
        const float factor = ns[gate];
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) ys[to + i] = xs[from + i] * factor;
      },
      [&](int64_t gate, int64_t from, int64_t to) {
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) ys[to + i] = xs[from + i] * ms[gate + i];
      });
  return {y};
}

std::vector<Tensor> ShuffleGateGrad(const Tensor& input, const Tensor& numbers,
                                    const Tensor& factors, const Tensor& upstream) {
  const Tensor x = InOrder(input), number = InOrder(numbers), map = InOrder(factors);
  const Tensor dy = InOrder(upstream);
  const Shuffle shuffle(x, number);
  Tensor dx = Like(x), dnumber = Like(number), dmap = Like(map);
  const float *xs = x.data<float>(), *ns = number.data<float>(), *ms = map.data<float>();
  const float* dys = dy.data<float>();
  float *dxs = dx.data<float>(), *dns = dnumber.data<float>(), *dms = dmap.data<float>();
  const int64_t pixels = shuffle.maps.pixels;
  shuffle.ForEach(
      [&](int64_t gate, int64_t from, int64_t to) {
        const float factor = ns[gate];
        dns[gate] = Product(xs + from, dys + to, pixels);
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) dxs[from + i] = dys[to + i] * factor;
      },
      [&](int64_t gate, int64_t from, int64_t to) {
#pragma omp simd
        for (int64_t i = 0; i < pixels; ++i) {
          dms[gate + i] = xs[from + i] * dys[to + i];
          dxs[from + i] = dys[to + i] * ms[gate + i];
        }
      });
  return {dx, dnumber, dmap};
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

PD_BUILD_OP(attn_blocks_shuffle_gate)
    .Inputs({"X", "Numbers", "Maps"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(ShuffleGate));

PD_BUILD_GRAD_OP(attn_blocks_shuffle_gate)
    .Inputs({"X", "Numbers", "Maps", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Numbers"), paddle::Grad("Maps")})
    .SetKernelFn(PD_KERNEL(ShuffleGateGrad));
