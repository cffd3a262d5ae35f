"""An encoder in fewer bits: the same operations, vectors close to float32's, and each clip for itself."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from halsted_ray.errors import ModelError
from halsted_ray.model.captured_forward import CapturedForward
from halsted_ray.model.checkpoint import Checkpoint
from halsted_ray.model.encoder import PRESETS, Encoder
from halsted_ray.model.precision import PRECISIONS, choose_precision, is_compiled_by_default, require_support
from halsted_ray.model.quantized_linear import (
    Fp8Linear,
    Int8Linear,
    multiply_emulated,
    multiply_on_gpu,
    quantize_linears,
    quantize_rows,
)
from halsted_ray.model.videomae import VideoMAE, VideoMAESizes
from halsted_ray.storage.vectors import encoder_name

SIZES = {
    "image_size": 32,
    "patch_size": 16,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clips(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, size, size, 3), dtype=np.uint8)


def small(**options):
    """A small encoder with weights that are large enough to matter."""
    with torch.device("meta"):
        shapes = VideoMAE(VideoMAESizes.from_dict(SIZES)).state_dict()
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.empty(value.shape).normal_(std=0.1, generator=generator) for name, value in shapes.items()}
    return Encoder(Checkpoint(dict(SIZES), tensors), **options)


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_a_precision_is_part_of_what_names_vectors_and_fp32_keeps_the_name_it_had():
    assert encoder_name("0f", "fp32") == "0f" and encoder_name("0f", "bf16") == "0f-bf16"
    assert len({encoder_name("0f", precision) for precision in PRECISIONS}) == 4
    encoder = small(precision="bf16")
    assert encoder.vectors_name == f"{small().fingerprint}-bf16" and small().vectors_name == small().fingerprint


def test_the_default_is_bf16_on_a_gpu_and_fp32_on_a_cpu():
    assert (choose_precision("cuda:1"), choose_precision("cpu"), small().precision) == ("bf16", "fp32", "fp32")
    with pytest.raises(ModelError, match="precision is 'fp16', expected one of: fp32, bf16, fp8, int8"):
        small(precision="fp16")
    with pytest.raises(ModelError, match="int8 runs on a CPU only"):
        choose_precision("cuda", "int8")


def test_a_gpu_without_float8_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "RTX A4000")
    with pytest.raises(ModelError, match=r"capability 8\.9 or later, RTX A4000 has 8\.6; choose bf16"):
        require_support("fp8", torch.device("cuda"))
    require_support("bf16", torch.device("cuda"))


def test_int8_without_an_engine_for_it_is_refused(monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "engine", "qnnpack", raising=False)
    with pytest.raises(ModelError, match="needs an x86 CPU, PyTorch offers the engine 'qnnpack'"):
        require_support("int8", torch.device("cpu"))


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9999), ("fp8", 0.998), ("int8", 0.999)])
def test_vectors_are_close_to_float32_s(precision, least):
    exact, found = small().encode(clips(4)), small(precision=precision).encode(clips(4))
    assert 0.9 < least <= cosines(exact, found).min() < 1
    assert not (exact == found).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_row_depends_on_its_clip_alone_in_every_precision(precision, micro_batch):
    encoder = small(precision=precision, micro_batch=micro_batch)
    batch = clips(4)
    batch[1] //= 8  # a dark clip, which a scale over the whole batch would treat more coarsely
    together = encoder.encode(batch)
    order = [2, 0, 3, 1]
    assert (encoder.encode(batch[order]) == together[order]).all()
    assert (np.concatenate([encoder.encode(batch[n : n + 1]) for n in range(4)]) == together).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("qv_bias", [True, False])
def test_fused_projections_change_no_bit(dtype, qv_bias):
    for preset in ("tiny", "giant"):
        sizes = VideoMAESizes.from_dict({**PRESETS[preset], "num_hidden_layers": 1, "qv_bias": qv_bias})
        model = VideoMAE(sizes).to(dtype).eval().requires_grad_(False)
        tokens_NTD = torch.randn(2, 40, sizes.hidden_size, generator=torch.Generator().manual_seed(1)).to(dtype)
        before = model.encoder(tokens_NTD)
        names, weights = list(model.state_dict()), {name: value.clone() for name, value in model.state_dict().items()}
        model.fuse_projections()
        assert torch.equal(model.encoder(tokens_NTD), before)
        assert list(model.state_dict()) == names
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        attention = model.encoder.layer[0].attention.attention
        shared = {
            part.weight.untyped_storage().data_ptr() for part in (attention.query, attention.key, attention.fused)
        }
        assert len(shared) == 1, "no second copy"


def test_the_mean_of_tokens_needs_no_float32_copy_of_them():
    tokens = torch.randn(2, 392, 192, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    assert torch.equal(tokens.mean(-2, dtype=torch.float32), tokens.float().mean(1))


def test_rows_are_quantised_to_the_whole_range_of_float8():
    rows = torch.randn(64, 80, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * 3
    rows[5], rows[6] = 0, rows[6] * 1e-6
    quantized, scale = quantize_rows(rows)
    assert quantized.dtype == torch.float8_e4m3fn and scale.shape == (64, 1) and scale.dtype == torch.float32
    largest = quantized.float().abs().amax(1)
    assert (largest[5] == 0) and (largest[torch.arange(64) != 5] == 448).all()
    again = quantized.float() * scale
    assert ((again - rows.float()).abs() <= rows.float().abs() * 2**-4 + scale * 2**-10).all(), "half of the last bit"


def fp8_operands(rows=32, inner=64, outer=48, bias=True):
    generator = torch.Generator().manual_seed(0)
    a, scale_a = quantize_rows(torch.randn(rows, inner, generator=generator).to(torch.bfloat16))
    b, scale_b = quantize_rows(torch.randn(outer, inner, generator=generator).to(torch.bfloat16))
    return a, scale_a, b, scale_b.t().contiguous(), torch.randn(outer).to(torch.bfloat16) if bias else None


@pytest.mark.parametrize("bias", [True, False])
def test_the_emulated_product_equals_pytorch_s_own(bias):
    """PyTorch runs ``_scaled_mm`` on a CPU too, and a GPU's fast accumulation is the one thing it does not show."""
    operands = fp8_operands(bias=bias)
    expected = multiply_on_gpu(*operands)
    found = multiply_emulated(*operands)
    assert found.dtype == expected.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float(), expected.float(), rtol=2**-7, atol=2**-7)
    exact = (operands[0].double() * operands[1]) @ (operands[2].double().t() * operands[3])
    exact = exact if operands[4] is None else exact + operands[4]
    np.testing.assert_allclose(found.double(), exact, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_gpu_would_take_the_operands_of_every_preset(preset):
    """PyTorch's own checks for a GPU: row-major by column-major, shapes and types of scales, multiples of 16."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        sizes = VideoMAESizes.from_dict({**PRESETS[preset], "num_hidden_layers": 2, "num_frames": 16})
        with torch.device("meta"):
            model = VideoMAE(sizes).requires_grad_(False)
        place = {"dtype": torch.bfloat16, "device": "cuda"}
        weights = {name: torch.empty(value.shape, **place) for name, value in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        tokens = torch.empty(3, sizes.patches, sizes.hidden_size, **place)
        model.fuse_projections()
        quantize_linears(model, "fp8")
        out = model.encoder(tokens)
        assert (out.shape, out.dtype, out.device.type) == (tokens.shape, torch.bfloat16, "cuda")
        linear = model.encoder.layer[0].intermediate.dense
        rows, scale = quantize_rows(tokens.flatten(0, 1))
        with pytest.raises(RuntimeError, match="col_major"):
            row_major = torch.empty(linear.weight.shape[::-1], dtype=torch.float8_e4m3fn, device="cuda")
            torch._scaled_mm(rows, row_major, scale, linear.scale, out_dtype=torch.bfloat16)
        with pytest.raises(RuntimeError, match="must be 2D"):
            multiply_on_gpu(rows, scale.squeeze(1), linear.weight, linear.scale, linear.bias)


def test_widths_that_float8_can_not_multiply_are_refused():
    with pytest.raises(ModelError, match="multiples of 16, this encoder has one of 64 to 100; choose bf16"):
        Fp8Linear(torch.zeros(100, 64), None)


def test_int8_multiplies_whole_numbers_exactly():
    """With numbers that 8 bits hold, nothing is rounded, so any other result would be a wrong product."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (48, 64), generator=generator).float()
    weight[:, 0] = 127  # so that every output channel has the scale 1
    tokens = torch.randint(-63, 64, (2, 5, 64), generator=generator).float()
    tokens[:, 0, 0], tokens[:, 0, 1] = -63, 64  # 128 steps of 1, which are the 7 bits
    bias = torch.arange(48.0)
    found = Int8Linear(weight, bias)(tokens)
    np.testing.assert_allclose(found, torch.nn.functional.linear(tokens, weight, bias), rtol=1e-5, atol=0.5)


def test_quantised_layers_keep_no_weights_in_more_bits():
    encoder = small(precision="fp8")
    kept = [value for name, value in encoder.model.encoder.named_parameters() if value.dim() > 1]
    assert not kept and encoder.parameters == small().parameters
    assert encoder.flops_per_clip == small().flops_per_clip > 0
    with pytest.raises(ModelError, match="runs in fp8 and was to be saved in fp32"):
        encoder.save("memory://nowhere")


def test_forward_device_is_what_encode_runs_on():
    for steps in (False, True):
        encoder = small(micro_batch=3, steps=steps)
        batch = torch.from_numpy(clips(3))
        vectors = encoder.forward_device(batch)
        assert vectors.shape == (3, encoder.dim) and vectors.dtype == torch.float32
        assert (vectors.numpy().astype(np.float16) == encoder.encode(batch.numpy())).all()


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 16, 32, 32, 3, dtype=torch.uint8), torch.zeros(3, 16, 32, 32, 3)], ids=["count", "type"]
)
def test_forward_device_takes_its_fixed_shape_alone(wrong):
    with pytest.raises(ModelError, match=r"expected torch.uint8 \(3, 16, 32, 32, 3\) on cpu"):
        small(micro_batch=3).forward_device(wrong)


class FakeCuda:
    """CUDA graphs on a CPU: a graph is captured by remembering nothing, and replayed by running the forward again."""

    def __init__(self, forward):
        self.forward, self.log, self.captured = forward, [], None

    class Stream:
        def wait_stream(self, other):
            pass

    def device(self, device):
        return self

    stream = device

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append("end")

    def current_stream(self):
        return self.Stream()

    def CUDAGraph(self):  # noqa: N802
        return self

    def graph(self, graph, stream, capture_error_mode):
        assert graph is self and isinstance(stream, self.Stream) and capture_error_mode == "thread_local"
        self.log.append("capture")
        return self

    def replay(self):
        self.captured.vectors_ND.copy_(self.forward(self.captured.clips_NTHWC))
        self.log.append("replay")


def test_a_captured_forward_copies_in_replays_and_gives_vectors_of_its_own():
    calls = []

    def forward(clips_NTHWC):
        calls.append(clips_NTHWC.data_ptr())
        return clips_NTHWC.float().mean((1, 2, 3))

    cuda = FakeCuda(forward)
    captured = cuda.captured = CapturedForward(forward, torch.zeros(2, 16, 4, 4, 3, dtype=torch.uint8), cuda)
    assert len(calls) == 4 and set(calls) == {captured.clips_NTHWC.data_ptr()}, "warm-up and capture, on its own buffer"
    one, two = torch.from_numpy(clips(2, 4, seed=1)), torch.from_numpy(clips(2, 4, seed=2))
    first, second = captured(one), captured(two)
    assert torch.equal(first, one.float().mean((1, 2, 3))), "the second replay did not overwrite the first vectors"
    assert torch.equal(second, two.float().mean((1, 2, 3))) and cuda.log.count("replay") == 2


def test_a_graph_without_a_gpu_is_refused():
    with pytest.raises(ModelError, match="graph=True needs a GPU, the device is 'cpu'"):
        small(graph=True)


def test_fp8_is_compiled_on_a_gpu_by_default_and_nothing_else(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append(options))
    small(), small(precision="fp8"), small(compile=False)
    assert compiled == []
    small(compile=True)
    assert compiled == [{"fullgraph": True, "dynamic": False}] * 3
    on_gpu = [precision for precision in PRECISIONS if is_compiled_by_default(precision, torch.device("cuda"))]
    assert on_gpu == ["fp8"]
