"""The model that answers, on vLLM: for GPUs, where it is many times faster than the local engine; a CPU does too.

Importing this module imports vLLM, so only code that was asked for this backend imports it.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]
from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]
from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

from core.errors import EngineError, InputError
from core.runfile import first_line
from core.sampling import GREEDY_BELOW, Sampling
from eval.questions import Answer, Question

IN_FLIGHT = 256
"""Questions inside vLLM at once: enough to keep a GPU busy, few enough that their images fit into memory."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM makes room for; an adapter takes the next larger one."""

NEVER = -100.0
"""What is added to the logit of a token that must not be sampled; vLLM takes no less."""


class VllmAnswerer:
    """Answers with vLLM, in bfloat16 on a GPU and in float32 on a CPU.

    The chat template, the tokens that are never sampled and the text of a response are the local engine's.
    """

    backend = "vllm"

    def __init__(self, model: str, adapter: Path | None = None, revision: str | None = None) -> None:
        """Start the engine.

        Args:
            model: A hub id or a folder of plain weights.
            adapter: A folder that peft wrote; every question is answered with it.
            revision: Of the model on the hub.

        Raises:
            InputError: The model cannot be loaded, or the adapter is none or changes nothing.
        """
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.lora = None if adapter is None else LoRARequest("adapter", 1, str(adapter))
        lora = {} if adapter is None else {"enable_lora": True, "max_lora_rank": lora_room(adapter)}
        try:
            self.llm: Any = LLM(  # vLLM is absent where this is checked
                model,
                revision=revision,
                tokenizer_revision=revision,
                dtype="float32" if self.device == "cpu" else "bfloat16",
                enforce_eager=self.device == "cpu",  # compiling takes a CPU longer than answering
                max_model_len=-1,  # the model's own, or less where memory cannot hold one answer of that length
                limit_mm_per_prompt={"video": 0},  # or vLLM sets memory aside for the longest video
                **lora,
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            raise InputError(f"model {model!r}: expected a folder or a hub id that vLLM loads; {reason}") from error
        self.tokenizer = self.llm.get_tokenizer()
        if self.tokenizer.chat_template is None:
            raise InputError(f"model {model!r}: its tokenizer has no chat template; choose an instruction-tuned model")
        added, end = self.tokenizer.added_tokens_decoder, self.tokenizer.eos_token_id
        self.unsampled = {i: NEVER for i, token in added.items() if token.special and i != end}
        if adapter is not None:
            self._check(adapter)

    def answers(self, questions: Sequence[Question], sampling: Sampling) -> Iterator[tuple[Question, Answer]]:
        """Answer them all, each answer handed out as soon as it ends; closing the iterator drops the unfinished."""
        engine, context = self.llm.llm_engine, self.llm.model_config.max_model_len
        waiting, asked = deque(enumerate(questions)), {}
        try:
            while waiting or asked:
                while waiting and len(asked) < IN_FLIGHT:
                    place, question = waiting.popleft()
                    prompt = self._prompt(question, context)
                    room = context - len(prompt["prompt_token_ids"])
                    if room < 1:  # nothing can be said, and one item must not end the evaluation
                        yield question, Answer("", len(prompt["prompt_token_ids"]), 0, truncated=True)
                        continue
                    parameters = self._parameters(question, sampling, room)
                    engine.add_request(str(place), prompt, parameters, lora_request=self.lora)
                    asked[str(place)] = question
                for output in self._step() if asked else ():  # with nothing to do, a step would wait for ever
                    yield asked.pop(output.request_id), self._answer(output)
        except EngineError:
            asked.clear()  # a broken engine takes no more word
            raise
        finally:
            engine.abort_request(list(asked))

    def _step(self) -> list[Any]:
        """Requests that ended with one more step."""
        try:
            return self.llm.llm_engine.step()
        except (RuntimeError, EngineDeadError) as error:  # after either, another request would wait for ever
            raise EngineError(f"vLLM broke down: {first_line(error)}") from error

    def _check(self, adapter: Path) -> None:
        """One token with the adapter and without: vLLM says nothing where an adapter's names are not the model's."""
        prompt = {"prompt_token_ids": self.tokenizer.encode("1 + 1 = ", add_special_tokens=False)}
        parameters = SamplingParams(temperature=0.0, max_tokens=1, logprobs=1, detokenize=False)
        said = []
        for lora in (None, self.lora):  # one after the other: in one batch vLLM 0.32 on a CPU adapts both
            (output,) = self.llm.generate([prompt], parameters, lora_request=lora, use_tqdm=False)
            said.append(output.outputs[0].logprobs)
        if said[0] == said[1]:
            raise InputError(
                f"{adapter}: expected an adapter trained on this model, but it changes nothing; "
                "name the model it was trained on, or leave the adapter out"
            )

    def _prompt(self, question: Question, context: int) -> dict[str, Any]:
        """The prompt's token ids, those of its images among them; without them where it is too long already."""
        text = self.tokenizer.apply_chat_template(list(question.messages), tokenize=False, add_generation_prompt=True)
        prompt: dict[str, Any] = {"prompt_token_ids": self.tokenizer.encode(text, add_special_tokens=False)}
        if len(prompt["prompt_token_ids"]) >= context:
            return prompt
        if question.images:
            if not self.llm.model_config.is_multimodal_model:
                raise InputError(f"{question.task} {question.row}: a text-only model was given a question with images")
            prompt["multi_modal_data"] = {"image": [image.convert("RGB") for image in question.images]}
        (rendered,) = self.llm.renderer.render_cmpl([prompt])
        return rendered

    def _parameters(self, question: Question, sampling: Sampling, room: int) -> SamplingParams:
        return SamplingParams(
            temperature=0.0 if sampling.temperature < GREEDY_BELOW else sampling.temperature,  # vLLM raises it first
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            presence_penalty=sampling.presence_penalty,
            max_tokens=min(sampling.max_new_tokens, room),
            seed=question.draw_seed,
            logit_bias=self.unsampled,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _answer(self, output: Any) -> Answer:
        (said,) = output.outputs
        ids = list(said.token_ids)
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(text, len(output.prompt_token_ids), len(ids), truncated=said.finish_reason == "length")


def lora_room(adapter: Path) -> int:
    """The rank that vLLM has to make room for.

    Raises:
        InputError: The adapter says nothing of its rank, or has one that vLLM does not take.
    """
    file = adapter / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        rank = max(config["r"], *(config.get("rank_pattern") or {}).values(), 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: expected what peft writes beside an adapter, with its rank r; {error!r}") from error
    if rank > LORA_RANKS[-1]:
        raise InputError(f"{file}: expected a rank of at most {LORA_RANKS[-1]}, found {rank}; merge the adapter")
    return min(room for room in LORA_RANKS if room >= rank)
