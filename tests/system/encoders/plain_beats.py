"""BEATs in NumPy, as an independent reference."""

import numpy as np
from scipy.special import erf

TABLE = "encoder.layers.{}.self_attn.relative_attention_bias.weight"


class Plain:
    """The network in NumPy and double precision, one recording at a time, with the published tensors."""

    def __init__(self, tensors: dict, heads: int, max_distance: int):
        self.tensors = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        self.heads, self.max_distance = heads, max_distance

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def places(self, x):
        v, g = (self.tensors[f"encoder.pos_conv.0.weight_{letter}"] for letter in "vg")
        weight = v * g / np.sqrt((v**2).sum((0, 1), keepdims=True))
        inputs, taps = weight.shape[1:]
        padded = np.pad(x, ((taps // 2, taps // 2), (0, 0)))
        out = np.zeros_like(x)
        for group in range(len(v) // inputs):
            part = slice(group * inputs, (group + 1) * inputs)
            for tap in range(taps):
                out[:, part] += padded[tap : tap + len(x), part] @ weight[part, :, tap].T
        return gelu(out + self.tensors["encoder.pos_conv.0.bias"])

    def bias(self, length, buckets=320):
        table = self.tensors[TABLE.format(0)]
        out = np.zeros((self.heads, length, length))
        for query in range(length):
            for key in range(length):
                distance = abs(key - query)
                bucket = distance
                if distance >= buckets // 4:
                    octaves = np.log(np.float32(distance / 80)) / np.log(self.max_distance / 80)
                    bucket = min(buckets // 2 - 1, int(80 + np.float32(octaves) * np.float32(80)))
                out[:, query, key] = table[bucket + (buckets // 2 if key > query else 0)]
        return out

    def tokens(self, spectrogram, depth):
        frames = len(spectrogram) // 16
        patches = spectrogram[: 16 * frames].reshape(frames, 16, 8, 16).transpose(0, 2, 1, 3).reshape(-1, 256)
        x = patches @ self.tensors["patch_embedding.weight"].reshape(-1, 256).T
        x = self.linear(self.norm(x, "layer_norm"), "post_extract_proj")
        x = self.norm(x + self.places(x), "encoder.layer_norm")
        bias, alpha = self.bias(len(x)), (2 * len({n for n in self.tensors if n.endswith("grep_a")})) ** 0.25
        for layer in range(depth):
            at = f"encoder.layers.{layer}."
            attended = self.attention(x, at + "self_attn.", bias)
            x = self.norm(alpha * x + attended, at + "self_attn_layer_norm")
            x = self.norm(
                alpha * x + self.linear(gelu(self.linear(x, at + "fc1")), at + "fc2"), at + "final_layer_norm"
            )
        return x

    def attention(self, x, at, bias):
        q, k, v = (self.linear(x, f"{at}{letter}_proj") for letter in "qkv")
        width = x.shape[1] // self.heads
        parts = []
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            opened = self.linear(q[:, part], at + "grep_linear")
            first, second = (1 / (1 + np.exp(-opened[:, cut].sum(1))) for cut in (slice(0, 4), slice(4, 8)))
            gate = first * (second * self.tensors[at + "grep_a"][0, head, 0, 0] - 1) + 2
            logits = q[:, part] @ k[:, part].T / np.sqrt(width) + gate[:, None] * bias[head]
            weights = np.exp(logits - logits.max(1, keepdims=True))
            parts.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        return self.linear(np.concatenate(parts, 1), at + "out_proj")


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2
