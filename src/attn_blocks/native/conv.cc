// Two-dimensional convolution through oneDNN, the library that Paddle's own wheel carries.
//
// Paddle's eager mode computes a convolution on the CPU as im2col and one matrix product an image.
// This operator gives the same float32 buffers to oneDNN instead. Tensors keep Paddle's plain
// [N, C, H, W] order outside; inside, oneDNN may work on channel blocks of the width of a vector
// register, and the operator reorders on the way in and out.

// The headers on PyPI are configured for SYCL, the library in the wheel for OpenMP.
#include "oneapi/dnnl/dnnl_config.h"
#undef DNNL_CPU_THREADING_RUNTIME
#undef DNNL_CPU_RUNTIME
#undef DNNL_GPU_RUNTIME
#undef DNNL_GPU_VENDOR
#undef DNNL_WITH_SYCL
#undef DNNL_ENABLE_CONCURRENT_EXEC
#define DNNL_CPU_THREADING_RUNTIME DNNL_RUNTIME_OMP
#define DNNL_CPU_RUNTIME DNNL_RUNTIME_OMP
#define DNNL_GPU_RUNTIME DNNL_RUNTIME_NONE
#define DNNL_GPU_VENDOR DNNL_VENDOR_NONE
#include "oneapi/dnnl/dnnl.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensors.h"

namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

// Everything that decides which kernel runs; equal geometries share their primitives.
struct Geometry {
  memory::dims x, w, y, bias;
  memory::dims stride, dilation, before, after;
  bool bfloat16;

  Geometry(const memory::dims& input, const memory::dims& weight, bool has_bias,
           const std::vector<int>& strides, const std::vector<int>& paddings,
           const std::vector<int>& dilations, int groups, bool bfloat16)
      : x(input),
        w(weight),
        y{x[0], w[0], 0, 0},
        stride(strides.begin(), strides.end()),
        dilation{dilations[0] - 1, dilations[1] - 1},  // oneDNN counts the gaps
        before{paddings[0], paddings[2]},
        after{paddings[1], paddings[3]},
        bfloat16(bfloat16) {
    for (int i = 0; i < 2; ++i) {
      int64_t reach = dilations[i] * (w[2 + i] - 1) + 1;
      int64_t room = x[2 + i] + before[i] + after[i] - reach;
      PD_CHECK(room >= 0, "The kernel is larger than the padded input.");
      y[2 + i] = room / stride[i] + 1;
    }
    if (has_bias) bias = {w[0]};
    if (groups > 1) w = {groups, w[0] / groups, w[1], w[2], w[3]};
  }

  // A pointwise convolution is a matrix product an image, for which the plain order is as good
  // as any, and reordering would cost as much again. On the smallest maps the rows are too short.
  bool StaysPlain() const {
    return w.size() == 4 && w[2] * w[3] == 1 && before[0] + before[1] + after[0] + after[1] == 0 &&
           y[2] * y[3] >= 36;
  }

  bool operator<(const Geometry& other) const {
    return std::tie(x, w, y, bias, stride, dilation, before, after, bfloat16) <
           std::tie(other.x, other.w, other.y, other.bias, other.stride, other.dilation,
                    other.before, other.after, other.bfloat16);
  }
};

memory::desc Plain(const memory::dims& dims) {
  static const Tag tags[] = {Tag::undef, Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde};
  return dims.empty() ? memory::desc() : memory::desc(dims, memory::data_type::f32, tags[dims.size()]);
}

memory::desc Free(const memory::dims& dims) {
  return {dims, memory::data_type::f32, Tag::any};
}

// oneDNN's last resort for what no other kernel of this processor covers: plain loops, which can
// take a hundred times as long as a matrix product.
bool IsReference(const dnnl::primitive_desc_base& kernel) {
  return std::string(kernel.impl_info_str()).rfind("ref", 0) == 0;
}

// make(layout of x, layout of y) for the first pair of layouts that has more than a reference
// kernel: those that are preferred, those that oneDNN picks, the plain ones of its matrix product.
template <typename Make>
auto Fastest(const Geometry& g, const memory::desc& x, const memory::desc& y, Make make) {
  auto found = make(x, y);
  if (IsReference(found)) found = make(Free(g.x), Free(g.y));
  if (IsReference(found)) found = make(Plain(g.x), Plain(g.y));
  return found;
}

class Convolution {
 public:
  explicit Convolution(const Geometry& g)
      : x_(Plain(g.x)), w_(Plain(g.w)), y_(Plain(g.y)), bias_(Plain(g.bias)) {
    const auto direct = dnnl::algorithm::convolution_direct;
    dnnl::primitive_attr attributes;
    if (g.bfloat16) attributes.set_fpmath_mode(dnnl::fpmath_mode::bf16);
    auto x = g.StaysPlain() ? x_ : Free(g.x), y = g.StaysPlain() ? y_ : Free(g.y);
    forward_ = Fastest(g, x, y, [&](const memory::desc& x, const memory::desc& y) {
      return dnnl::convolution_forward::primitive_desc(
          Engine(), dnnl::prop_kind::forward_training, direct, x, Free(g.w), bias_, y,
          g.stride, g.dilation, g.before, g.after, attributes);
    });
    // The backward passes take the layouts of the forward pass, so that the input and the
    // gradient of the output are reordered once each; left free, oneDNN would pick others.
    x = forward_.src_desc(), y = forward_.dst_desc();
    weights_ = Fastest(g, x, y, [&](const memory::desc& x, const memory::desc& y) {
      return dnnl::convolution_backward_weights::primitive_desc(
          Engine(), direct, x, Free(g.w), bias_, y,
          g.stride, g.dilation, g.before, g.after, forward_, attributes);
    });
    data_ = Fastest(g, x, y, [&](const memory::desc& x, const memory::desc& y) {
      return dnnl::convolution_backward_data::primitive_desc(
          Engine(), direct, x, Free(g.w), y,
          g.stride, g.dilation, g.before, g.after, forward_, attributes);
    });
    run_forward_ = dnnl::convolution_forward(forward_);
    run_weights_ = dnnl::convolution_backward_weights(weights_);
    run_data_ = dnnl::convolution_backward_data(data_);
  }

  // oneDNN's names of the kernels, a line each: forward, gradient of the weights, of the input.
  std::string Kernels() const {
    return std::string(forward_.impl_info_str()) + "\n" + weights_.impl_info_str() + "\n" +
           data_.impl_info_str();
  }

  Tensor Forward(const Tensor& x, const Tensor& w, const Tensor& bias) {
    auto y = paddle::empty(y_.get_dims(), x.dtype(), x.place());
    Arguments arguments{{DNNL_ARG_SRC, Reordered(Wrap(x_, x), forward_.src_desc())},
                        {DNNL_ARG_WEIGHTS, Reordered(Wrap(w_, w), forward_.weights_desc())}};
    if (bias.numel() > 0) arguments[DNNL_ARG_BIAS] = Wrap(bias_, bias);
    RunInto(run_forward_, arguments, DNNL_ARG_DST, forward_.dst_desc(), Wrap(y_, y));
    return y;
  }

  // The gradients of x (only if it is asked for), w and the bias.
  std::vector<Tensor> Backward(const Tensor& x, const Tensor& w, const Tensor& bias,
                               const Tensor& dy, bool input_grad) {
    auto dx = paddle::empty(input_grad ? x.shape() : std::vector<int64_t>{0}, x.dtype(), x.place());
    auto dw = paddle::empty(w.shape(), w.dtype(), w.place());
    auto dbias = paddle::empty(bias.shape(), x.dtype(), x.place());
    auto gradient = Reordered(Wrap(y_, dy), weights_.diff_dst_desc());
    Arguments arguments{{DNNL_ARG_SRC, Reordered(Wrap(x_, x), weights_.src_desc())},
                        {DNNL_ARG_DIFF_DST, gradient}};
    if (bias.numel() > 0) arguments[DNNL_ARG_DIFF_BIAS] = Wrap(bias_, dbias);
    RunInto(run_weights_, arguments, DNNL_ARG_DIFF_WEIGHTS, weights_.diff_weights_desc(),
            Wrap(w_, dw));
    if (input_grad) {
      RunInto(run_data_,
              {{DNNL_ARG_DIFF_DST, Reordered(gradient, data_.diff_dst_desc())},
               {DNNL_ARG_WEIGHTS, Reordered(Wrap(w_, w), data_.weights_desc())}},
              DNNL_ARG_DIFF_SRC, data_.diff_src_desc(), Wrap(x_, dx));
    }
    return {dx, dw, dbias};
  }

 private:
  static memory Wrap(const memory::desc& layout, const Tensor& tensor) {
    return {layout, Engine(), const_cast<float*>(tensor.data<float>())};
  }

  static memory Reordered(memory source, const memory::desc& layout) {
    if (source.get_desc() == layout) return source;
    memory target(layout, Engine());
    dnnl::reorder(source, target).execute(Stream(), source, target);
    return target;
  }

  static void RunInto(const dnnl::primitive& primitive, Arguments arguments, int name,
                      const memory::desc& layout, memory result) {
    bool same = layout == result.get_desc();
    memory output = same ? result : memory(layout, Engine());
    arguments[name] = output;
    primitive.execute(Stream(), arguments);
    if (!same) dnnl::reorder(output, result).execute(Stream(), output, result);
    Stream().wait();
  }

  memory::desc x_, w_, y_, bias_;  // Paddle's plain layouts
  dnnl::convolution_forward::primitive_desc forward_;
  dnnl::convolution_backward_data::primitive_desc data_;
  dnnl::convolution_backward_weights::primitive_desc weights_;
  dnnl::primitive run_forward_, run_data_, run_weights_;
};

Convolution& Find(const Geometry& geometry) {
  static std::map<Geometry, std::unique_ptr<Convolution>> known;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  auto& convolution = known[geometry];
  if (!convolution) convolution = std::make_unique<Convolution>(geometry);
  return *convolution;
}

// Paddle turns its own exceptions into Python's; oneDNN's would end the process.
template <typename Function>
std::vector<Tensor> Guarded(Function function) {
  try {
    return function();
  } catch (const dnnl::error& error) {
    // These words make a run that fails so one that ran out of memory, not one to try again.
    PD_THROW("oneDNN: ", error.status == dnnl_out_of_memory ? "out of memory, " : "", error.what());
  }
}

std::vector<Tensor> Forward(const Tensor& x, const Tensor& w, const Tensor& bias,
                            const std::vector<int>& strides, const std::vector<int>& paddings,
                            const std::vector<int>& dilations, int groups, bool bfloat16,
                            bool input_grad) {
  return Guarded([&] {
    auto& convolution = Find({x.shape(), w.shape(), bias.numel() > 0, strides, paddings,
                              dilations, groups, bfloat16});
    return std::vector<Tensor>{convolution.Forward(InOrder(x), InOrder(w), InOrder(bias))};
  });
}

std::vector<Tensor> Backward(const Tensor& x, const Tensor& w, const Tensor& bias,
                             const Tensor& dy, const std::vector<int>& strides,
                             const std::vector<int>& paddings, const std::vector<int>& dilations,
                             int groups, bool bfloat16, bool input_grad) {
  return Guarded([&] {
    auto& convolution = Find({x.shape(), w.shape(), bias.numel() > 0, strides, paddings,
                              dilations, groups, bfloat16});
    return convolution.Backward(InOrder(x), InOrder(w), InOrder(bias), InOrder(dy), input_grad);
  });
}

}  // namespace

// Which kernels a convolution takes (``Convolution::Kernels``), written to ``names`` as far as
// ``size`` goes; nothing where there is no such convolution. For Python, which asks before it calls.
extern "C" void attn_blocks_conv2d_kernels(const int64_t* x, const int64_t* w, int has_bias,
                                           const int* strides, const int* paddings,
                                           const int* dilations, int groups, int bfloat16,
                                           char* names, int64_t size) {
  std::string found;
  try {
    found = Find({{x, x + 4}, {w, w + 4}, has_bias != 0, {strides, strides + 2},
                  {paddings, paddings + 4}, {dilations, dilations + 2}, groups, bfloat16 != 0})
                .Kernels();
  } catch (...) {  // an operator that is called for it says what is wrong
  }
  names[found.copy(names, size - 1)] = 0;
}

// An absent bias is a tensor without elements.
PD_BUILD_OP(attn_blocks_conv2d)
    .Inputs({"X", "W", "Bias"})
    .Outputs({"Y"})
    .Attrs({"strides: std::vector<int>", "paddings: std::vector<int>",
            "dilations: std::vector<int>", "groups: int", "bfloat16: bool",
            "input_grad: bool"})
    .SetKernelFn(PD_KERNEL(Forward));

PD_BUILD_GRAD_OP(attn_blocks_conv2d)
    .Inputs({"X", "W", "Bias", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("W"), paddle::Grad("Bias")})
    .Attrs({"strides: std::vector<int>", "paddings: std::vector<int>",
            "dilations: std::vector<int>", "groups: int", "bfloat16: bool",
            "input_grad: bool"})
    .SetKernelFn(PD_KERNEL(Backward));
