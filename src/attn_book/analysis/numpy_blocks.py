"""The eight blocks in plain NumPy, each as its paper writes it, with the official code's details.

Every function takes a feature map ``x`` [N, C, H, W] and ``p``, the parameters by name as in the
Paddle layer's ``state_dict()``; all arrays are float64. Batch norms use their running statistics
and nothing is dropped, as in evaluation. Written to be read, not to be fast.
"""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def conv(x, p, name):
    """1x1 convolution: the same matrix at every pixel."""
    y = np.einsum("oi,nihw->nohw", p[f"{name}.weight"][:, :, 0, 0], x)
    return y + p.get(f"{name}.bias", np.zeros(1)).reshape(1, -1, 1, 1)


def batch_norm(x, p, name):
    weight, bias, mean, variance = (
        p[f"{name}.{key}"].reshape(1, -1, 1, 1) for key in ("weight", "bias", "_mean", "_variance")
    )
    return weight * (x - mean) / np.sqrt(variance + 1e-5) + bias


def squeeze_excite(x, p):
    """Hu et al. 2018, equations 2 to 4."""
    z = x.mean(axis=(2, 3), keepdims=True)  # squeeze
    s = sigmoid(conv(relu(conv(z, p, "fc1")), p, "fc2"))  # excite
    return x * s


def squeeze_excite_with_shift(x, p, squeeze):
    """The block of the small CIFAR network: a factor and a summand; squeezed, or per pixel."""
    z = x.mean(axis=(2, 3), keepdims=True) if squeeze else x
    w, b = np.split(conv(relu(conv(z, p, "fc1")), p, "fc2"), 2, axis=1)
    return x * sigmoid(w) + b


def gather_excite(x, p, variant, extent):
    """Hu et al. 2018 (GENet), section 2; extent 0 is the whole map."""
    if variant == "theta_minus":
        g = window_means(x, extent) if extent else x.mean(axis=(2, 3), keepdims=True)
    elif extent == 0:
        kernel = p["gather_layers.conv1.weight"][:, 0]  # as large as the map
        g = (x * kernel).sum(axis=(2, 3), keepdims=True)
        g = batch_norm(g, p, "gather_layers.norm1")
    else:
        g = x
        for stage in range(1, int(np.log2(extent)) + 1):
            g = relu(g) if stage > 1 else g
            g = depthwise_halving(g, p[f"gather_layers.conv{stage}.weight"][:, 0])
            g = batch_norm(g, p, f"gather_layers.norm{stage}")
    if variant == "theta_plus":
        g = relu(g) if extent == 0 else g
        g = conv(relu(conv(g, p, "fc1")), p, "fc2")
    return x * sigmoid(nearest(g, *x.shape[2:]))


def window_means(x, extent):
    """Means of the pixels less than ``extent`` from every extent-th pixel, inside the map."""
    rows, columns = (
        [slice(max(0, i - extent + 1), i + extent) for i in range(0, size, extent)]
        for size in x.shape[2:]
    )
    means = [[x[:, :, r, c].mean(axis=(2, 3)) for c in columns] for r in rows]
    return np.moveaxis(np.array(means), (0, 1), (2, 3))


def depthwise_halving(x, kernel):
    """3x3 convolution of each channel by itself, stride 2, padding 1."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sum(
        kernel[:, i, j, None, None] * padded[:, :, i : i + height : 2, j : j + width : 2]
        for i in range(3)
        for j in range(3)
    )


def nearest(x, height, width):
    """Nearest-neighbour interpolation to height x width."""
    rows = np.arange(height) * x.shape[2] // height
    columns = np.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def style_recalibration(x, p):
    """Lee et al. 2019, section 3."""
    mean = x.mean(axis=(2, 3))
    std = np.sqrt(x.var(axis=(2, 3), ddof=1) + 1e-5)  # style pooling
    z = p["cfc"][:, 0] * mean + p["cfc"][:, 1] * std  # style integration
    return x * sigmoid(batch_norm(z[:, :, None, None], p, "bn"))


def spatial_group_enhance(x, p, groups):
    """Li et al. 2019, equations 1 to 5."""
    n, c, height, width = x.shape
    x = x.reshape(n, groups, c // groups, height, width)
    g = x.mean(axis=(3, 4), keepdims=True)  # what the group is about
    a = (g * x).sum(axis=2, keepdims=True)  # how much each pixel looks like it
    a = a - a.mean(axis=(3, 4), keepdims=True)
    a = a / (a.std(axis=(3, 4), ddof=1, keepdims=True) + 1e-5)
    weight, bias = (p[key].reshape(1, groups, 1, 1, 1) for key in ("weight", "bias"))
    return (x * sigmoid(weight * a + bias)).reshape(n, c, height, width)


def shuffle_attention(x, p, groups):
    """Zhang and Yang 2021, equations 1 to 3."""
    n, c, height, width = x.shape
    x0, x1 = np.split(x.reshape(n * groups, c // groups, height, width), 2, axis=1)

    channel = sigmoid(p["cweight"] * x0.mean(axis=(2, 3), keepdims=True) + p["cbias"])

    mean, variance = (f(x1, axis=(2, 3), keepdims=True) for f in (np.mean, np.var))
    weight, bias = (p[key].reshape(1, -1, 1, 1) for key in ("gn.weight", "gn.bias"))
    normal = weight * (x1 - mean) / np.sqrt(variance + 1e-5) + bias
    spatial = sigmoid(p["sweight"] * normal + p["sbias"])

    y = np.concatenate([x0 * channel, x1 * spatial], axis=1).reshape(n, 2, c // 2, height, width)
    return y.swapaxes(1, 2).reshape(n, c, height, width)  # shuffle


def non_local(x, p, mode, scale, subsample, norm):
    """Wang et al. 2018, equations 1 to 6; rows of A are queries, columns are keys."""
    source = max_pool(x) if subsample == "input" else x
    theta, phi = (
        (x, source) if mode == "gaussian" else (conv(x, p, "theta"), conv(source, p, "phi"))
    )
    g = conv(source, p, "g")
    if subsample == "projections":
        phi, g = max_pool(phi), max_pool(g)
    theta, phi, g = (t.reshape(*t.shape[:2], -1) for t in (theta, phi, g))
    pairs = np.einsum("nci,ncj->nij", theta, phi)
    if mode == "concatenation":
        w_theta, w_phi = np.split(p["concat.weight"].ravel(), 2)
        i, j = np.einsum("c,nci->ni", w_theta, theta), np.einsum("c,ncj->nj", w_phi, phi)
        a = relu(i[:, :, None] + j[:, None, :]) / phi.shape[2]
    elif mode == "dot_product":
        a = pairs / phi.shape[2]
    else:
        a = softmax(pairs * theta.shape[1] ** -0.5 if scale else pairs)
    y = np.einsum("nij,ncj->nci", a, g)
    y = conv(y.reshape(*y.shape[:2], *x.shape[2:]), p, "z")
    return x + (batch_norm(y, p, "norm") if norm else y)


def max_pool(x):
    """The largest of every 2x2 pixels; an odd last row or column is left out."""
    n, c, height, width = x.shape
    x = x[:, :, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, c, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def global_context(x, p, pooling, fusion):
    """Cao et al. 2019, equation 5; multiplied first where both fusions are asked for."""
    n, c, height, width = x.shape
    if pooling == "att":
        a = softmax(conv(x, p, "conv_mask").reshape(n, 1, height * width))
        context = (x.reshape(n, c, height * width) * a).sum(axis=2).reshape(n, c, 1, 1)
    else:
        context = x.mean(axis=(2, 3), keepdims=True)
    y = x
    if "mul" in fusion:
        y = y * sigmoid(transform(context, p, "f_mul"))
    if "add" in fusion:
        y = y + transform(context, p, "f_add")
    return y


def transform(v, p, name):
    v = conv(v, p, f"{name}.conv1")
    v = (v - v.mean(axis=1, keepdims=True)) / np.sqrt(v.var(axis=1, keepdims=True) + 1e-5)
    weight, bias = (p[f"{name}.norm.{key}"].reshape(1, -1, 1, 1) for key in ("weight", "bias"))
    return conv(relu(weight * v + bias), p, f"{name}.conv2")


def bilinear_attn_transform(x, p, size, groups):
    """Chi et al. 2020, section 3, with the Kronecker products written out."""
    h = conv_bn_relu(x, p, "conv1")
    n, c, height, width = h.shape
    o = conv_bn_relu(h, p, "transform.conv1")
    rows = o.reshape(n, groups, size, -1).max(axis=3)  # the largest in each band of rows
    columns = o.swapaxes(2, 3).reshape(n, groups, size, -1).max(axis=3)
    left = np.einsum("okr,nkr->no", p["transform.conv_p.weight"][:, :, :, 0], rows)
    right = np.einsum("okr,nkr->no", p["transform.conv_q.weight"][:, :, 0, :], columns)
    left = sigmoid(left + p["transform.conv_p.bias"]).reshape(n, groups, size, size)
    right = sigmoid(right + p["transform.conv_q.bias"]).reshape(n, groups, size, size)
    left = left / left.sum(axis=3, keepdims=True)
    right = right / right.sum(axis=2, keepdims=True)
    y = np.empty_like(h)
    for i, j in np.ndindex(n, c):
        group = j // (c // groups)
        big_p = np.kron(left[i, group], np.eye(height // size))
        big_q = np.kron(right[i, group], np.eye(width // size))
        y[i, j] = big_p @ h[i, j] @ big_q
    return x + conv_bn_relu(conv_bn_relu(y, p, "transform.conv2"), p, "conv2")


def conv_bn_relu(x, p, name):
    return relu(batch_norm(conv(x, p, f"{name}.conv"), p, f"{name}.bn"))
