"""A Llama that writes tags as text (paper, Methods: the ablation with Llama-3.2-1B).

The input is [beginning | vector | instruction | answer]. A two-layer perceptron (the adaptor) brings the vector of a
window to the width of the Llama. The instruction and the answer are text in the Llama's own byte pairs, such as
``map dissection activity`` and ``<action> Retraction </action> <arm> Left </arm>``. Adaptor and Llama are trained; the
loss is on the answer. The paper does not state its template: the order of the parts and the line break between
instruction and answer were chosen here.

The answer is free text. ``vocabulary.parse`` finds the tags in it by a regular expression; what it does not find is
missing.

Any folder of Hugging Face's type "llama" with config.json, safetensors and tokenizer.json will do. Nothing is
downloaded, and no code of the folder runs. Tested with small untrained models only.

Shapes: N rows, D width of the encoder's vector, W width of the Llama, S tokens, V tokens of the Llama's vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from halsted_ray.errors import ModelError
from halsted_ray.model.checkpoint import JsonObject, locate, read_folder_tensors
from halsted_ray.model.llama import read_config

NO_LOSS = -100
"""In the place of a token that is not to be learned."""
BREAK = "\n"
"""Between the instruction and the answer."""


class LlamaText(nn.Module):
    """Reads a window's vector and an instruction, and writes an answer as text.

    ``config``: LlamaConfig's arguments. ``tokenizer``: of the same folder. ``dim``: D. ``beginning``: the id of the
    token that begins a text; ``endings``: of those that end it, the first of which is learned.
    """

    def __init__(self, config: JsonObject, tokenizer: Tokenizer, dim: int) -> None:
        super().__init__()
        llama = LlamaConfig.from_dict(config)
        self.llama, self.tokenizer = LlamaForCausalLM(llama), tokenizer
        width, ending = llama.hidden_size, llama.eos_token_id
        self.beginning = int(llama.bos_token_id)
        self.endings = tuple(ending) if isinstance(ending, list) else (int(ending),)
        self.adaptor = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_scale", torch.ones(dim))

    @torch.no_grad()
    def fit_features(self, vectors_ND: torch.Tensor) -> None:
        """Standardises the vectors by the mean and deviation of training vectors. Call it once, before training."""
        self.feature_mean.copy_(vectors_ND.mean(0))
        self.feature_scale.copy_(vectors_ND.std(0) + 1e-6)

    def ids(self, text: str) -> list[int]:
        """The byte pairs of a text, without a beginning or an end."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def answer_logits(
        self, vectors_ND: torch.Tensor, instructions: Sequence[str], answers: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [N, S, V], the token that each is to predict [N, S], ``NO_LOSS`` where none). ``answers``: ids."""
        prompts = [self.ids(text + BREAK) for text in instructions]
        rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        longest, device = max(map(len, rows)), vectors_ND.device
        # Padding stands at the end, and attention is causal: no other token sees it.
        tokens_NS = torch.tensor([[*row, *[self.endings[0]] * (longest - len(row))] for row in rows], device=device)
        targets_NS = torch.full((len(rows), longest + 2), NO_LOSS, device=device)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            start = len(prompt) + 1  # the position of the last token before the answer: beginning, vector, prompt
            targets_NS[row, start : start + len(answer)] = torch.tensor(list(answer), device=device)
        logits_NSV = self.llama(inputs_embeds=self._stream(vectors_ND, tokens_NS), use_cache=False).logits
        return logits_NSV, targets_NS

    def loss(self, vectors_ND: torch.Tensor, instructions: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Per row [N] the sum of −log p over the answer's byte pairs and the end of the text."""
        ids = [[*self.ids(answer), self.endings[0]] for answer in answers]
        return -self._log_probabilities(*self.answer_logits(vectors_ND, instructions, ids))

    @torch.inference_mode()
    def log_probabilities(
        self, vectors_ND: torch.Tensor, instructions: Sequence[str], answers: Sequence[str]
    ) -> torch.Tensor:
        """Per row [N] the log-probability that the text begins with the answer."""
        return self._log_probabilities(*self.answer_logits(vectors_ND, instructions, list(map(self.ids, answers))))

    @torch.inference_mode()
    def write(self, vectors_ND: torch.Tensor, instruction: str, most_tokens: int) -> list[str]:
        """The answer to one instruction about each vector, greedily, up to its end or ``most_tokens`` byte pairs."""
        prompt = torch.tensor([self.ids(instruction + BREAK)], device=vectors_ND.device)
        stream, cache = self._stream(vectors_ND, prompt.expand(len(vectors_ND), -1)), DynamicCache()
        endings = torch.tensor(self.endings, device=vectors_ND.device)
        written: list[torch.Tensor] = []
        is_done_N = torch.zeros(len(vectors_ND), dtype=torch.bool, device=vectors_ND.device)
        for _ in range(most_tokens):
            found = self.llama(inputs_embeds=stream, past_key_values=cache, use_cache=True)
            token_N = found.logits[:, -1].argmax(-1).masked_fill(is_done_N, self.endings[0])
            written.append(token_N)
            is_done_N |= torch.isin(token_N, endings)
            if is_done_N.all():
                break
            stream = self.llama.get_input_embeddings()(token_N[:, None])
        return [self.tokenizer.decode(self._until_end(row)) for row in torch.stack(written, 1).tolist()]

    def _until_end(self, ids: Iterable[int]) -> list[int]:
        kept = []
        for token in ids:
            if token in self.endings:
                break
            kept.append(token)
        return kept

    def _stream(self, vectors_ND: torch.Tensor, tokens_NS: torch.Tensor) -> torch.Tensor:
        """The Llama's input [N, 2 + S, W]: beginning, vector, tokens."""
        embed = self.llama.get_input_embeddings()
        beginning = embed(torch.full((len(vectors_ND), 1), self.beginning, device=vectors_ND.device))
        vector = self.adaptor((vectors_ND.float() - self.feature_mean) / self.feature_scale)
        return torch.cat([beginning, vector[:, None].to(beginning.dtype), embed(tokens_NS)], 1)

    def _log_probabilities(self, logits_NSV: torch.Tensor, targets_NS: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(logits_NSV.transpose(1, 2).float(), targets_NS, reduction="none", ignore_index=NO_LOSS)
        return -each.sum(1)


def load_llama_text(folder: str, dim: int) -> LlamaText:
    """The trained Llama in ``folder`` (local, or any fsspec URL), with an untrained adaptor.

    ``dim``: width of the vectors. Raises ModelError where the folder holds no Llama, its weights do not fit its
    config.json, or it has no tokenizer.json.
    """
    fs, path = locate(folder, "llama")
    config = read_config(folder)
    try:
        names = sorted(Path(entry).name for entry in fs.ls(path, detail=False))
        tokenizer = Tokenizer.from_str(fs.cat_file(f"{path.rstrip('/')}/tokenizer.json").decode())
    except Exception as error:  # tokenizers raises Exception itself for a file that it can't read
        raise ModelError(
            f"llama {folder!r}: tokenizer.json can't be read: {error}; expected the folder as it is published, with "
            "config.json, safetensors and tokenizer.json"
        ) from error
    model = LlamaText(config, tokenizer, dim)
    tensors = {name: value.float() for name, value in read_folder_tensors(fs, path, names, folder).items()}
    if model.llama.config.tie_word_embeddings:
        tensors.setdefault("lm_head.weight", tensors.get("model.embed_tokens.weight", torch.empty(0)))
    wanted = model.llama.state_dict()
    wrong = [name for name, value in wanted.items() if name not in tensors or tensors[name].shape != value.shape]
    if wrong:
        raise ModelError(
            f"llama {folder!r}: its weights do not fit its config.json: {', '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    if tokenizer.get_vocab_size() > model.llama.config.vocab_size:
        raise ModelError(
            f"llama {folder!r}: tokenizer.json has {tokenizer.get_vocab_size()} tokens, and config.json only "
            f"{model.llama.config.vocab_size}; expected the tokenizer that the Llama was trained with"
        )
    model.llama.load_state_dict({name: tensors[name] for name in wanted})
    return model
