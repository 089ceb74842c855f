"""vLLM as it is asked: a stand-in takes its place, and a machine that has the real one compares the two."""

import dataclasses
import importlib.util
import json
import random
import sys
import typing
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

from core.errors import EngineError, InputError
from core.pocket.tokenizer import build_tokenizer
from core.sampling import Sampling
from eval.questions import Answer, Question

HAS_VLLM = importlib.util.find_spec("vllm") is not None
CONTEXT = 60
TOKENS_OF_AN_IMAGE = 4
GREEDY = Sampling(max_new_tokens=20, temperature=0.0)


@dataclasses.dataclass
class StandInParams:
    """SamplingParams: its names, and what it does to a temperature near zero."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    max_tokens: int | None = 16
    seed: int | None = None
    stop: list[str] | None = None
    logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    detokenize: bool = True
    output_kind: str = "cumulative"

    def __post_init__(self):
        if 0 < self.temperature < 0.01:
            self.temperature = 0.01


class StandInEngine:
    """LLMEngine: repeats what the user said, and finishes requests out of order, not every step one."""

    def __init__(self, llm):
        self.llm, self.running, self.asked, self.steps, self.most_running = llm, {}, [], 0, 0
        self.order = random.Random(0)

    def add_request(self, request_id, prompt, params, arrival_time=None, lora_request=None):
        assert isinstance(request_id, str)
        assert request_id not in self.running
        if len(prompt["prompt_token_ids"]) >= CONTEXT:
            raise ValueError("The decoder prompt is longer than the maximum model length")
        self.running[request_id] = (prompt, params)
        self.asked.append(SimpleNamespace(prompt=prompt, params=params, lora=lora_request))
        self.most_running = max(self.most_running, len(self.running))

    def step(self):
        assert self.running, "the real one waits for ever"
        self.steps += 1
        if self.steps % 2:
            return []
        names = self.order.sample(list(self.running), min(2, len(self.running)))
        finished = [self._output(name, *self.running.pop(name)) for name in names]
        talkative = [name for name, (_, params) in self.running.items() if params.output_kind != "final only"]
        return finished + [SimpleNamespace(request_id=name, outputs=[]) for name in talkative]

    def _output(self, name, prompt, params):
        ids, tokenizer = prompt["prompt_token_ids"], self.llm.tokenizer
        said = tokenizer.decode(ids).split("user\n")[1].split("<|im_end|>")[0]
        new = [*tokenizer.encode(said.split(">")[-1]), tokenizer.eos_token_id]
        reason = "length" if len(new) > params.max_tokens else "stop"
        said = SimpleNamespace(token_ids=new[: params.max_tokens], finish_reason=reason)
        return SimpleNamespace(request_id=name, prompt_token_ids=ids, outputs=[said])

    def abort_request(self, request_ids):
        for name in request_ids:
            self.running.pop(name, None)


class StandInLLM:
    """LLM: nothing but what the answerer uses, under the real names."""

    multimodal, adapters_fit = True, True

    def __init__(self, model, **options):
        if model == "nobody/nothing":
            raise OSError("no such model\nand more lines")
        self.model, self.options = model, options
        self.tokenizer = build_tokenizer()
        self.tokenizer.add_tokens(["<think>"])
        self.model_config = SimpleNamespace(max_model_len=CONTEXT, is_multimodal_model=self.multimodal)
        self.renderer = SimpleNamespace(render_cmpl=self._render_cmpl)
        self.llm_engine = StandInEngine(self)

    def get_tokenizer(self):
        return self.tokenizer

    def _render_cmpl(self, prompts):
        (prompt,) = prompts
        ids, images = [], list(prompt.get("multi_modal_data", {}).get("image", []))
        assert len(prompt["prompt_token_ids"]) <= CONTEXT, "the real one refuses"
        for token in prompt["prompt_token_ids"]:
            is_image = token == self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
            ids += [token] * (TOKENS_OF_AN_IMAGE if is_image else 1)
        return [{"prompt_token_ids": ids, "images": images, "given": prompt["prompt_token_ids"]}]

    def generate(self, prompts, sampling_params, *, use_tqdm=True, lora_request=None):
        value = -1.5 if lora_request and self.adapters_fit else -1.0
        said = SimpleNamespace(logprobs=[{9: value}] if sampling_params.logprobs else None)
        return [SimpleNamespace(outputs=[said]) for _ in prompts]


@pytest.fixture
def vllm_model(monkeypatch):
    """`eval.vllm_model` over the stand-in."""
    contents = {
        "vllm": {"LLM": type("LLM", (StandInLLM,), {}), "SamplingParams": StandInParams},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": lambda name, number, path: (name, number, path)},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(FINAL_ONLY="final only")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": type("EngineDeadError", (Exception,), {})},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    kept = sys.modules.pop("eval.vllm_model", None)
    yield importlib.import_module("eval.vllm_model")
    del sys.modules["eval.vllm_model"]
    if kept is not None:
        sys.modules["eval.vllm_model"] = kept


@pytest.fixture
def answerer(vllm_model):
    """One over a model without an adapter."""
    return vllm_model.VllmAnswerer("m")


def asked(text: str, row: int = 0, images: tuple[Image.Image, ...] = (), seed: int = 0) -> Question:
    parts = [{"type": "image"}] * len(images) + [{"type": "text", "text": text}]
    return Question("wemath", row, seed, ({"role": "user", "content": parts},), images)


def adapter(folder: Path, **config) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_every_answer_belongs_to_its_question_in_whatever_order_they_end(vllm_model):
    questions = [asked(f"{row} + {row}", row) for row in range(9)]
    answers = list(vllm_model.VllmAnswerer("m").answers(questions, GREEDY))
    assert [question.row for question, _ in answers] != list(range(9)), "the stand-in should mix them up"
    assert sorted(question.row for question, _ in answers) == list(range(9))
    assert {question.row: answer.text for question, answer in answers} == {row: f"{row} + {row}" for row in range(9)}


def test_tokens_are_counted_with_images_and_the_end(answerer):
    image = Image.new("RGB", (2, 2))
    ((_, answer),) = answerer.answers([asked("2+2", images=(image,))], GREEDY)
    # start "user" newline, vision start, 4 of the image, vision end, "2+2", end newline, start "assistant" newline
    n_prompt = (1 + 4 + 1) + (1 + TOKENS_OF_AN_IMAGE + 1) + 3 + (1 + 1) + (1 + 9 + 1)
    assert answer == Answer("2+2", n_prompt, 4, truncated=False)


def test_the_prompt_is_the_chat_template_with_images_in_order_and_in_rgb(answerer):
    images = tuple(Image.new("RGBA", (1, 1), (red, 0, 0, 0)) for red in (10, 20, 30))
    list(answerer.answers([asked("7", images=images)], GREEDY))
    (request,) = answerer.llm.llm_engine.asked
    see = "<|vision_start|><|image_pad|><|vision_end|>"
    text = f"<|im_start|>user\n{3 * see}7<|im_end|>\n<|im_start|>assistant\n"
    assert request.prompt["given"] == build_tokenizer().encode(text)
    assert [image.getpixel((0, 0)) for image in request.prompt["images"]] == [(10, 0, 0), (20, 0, 0), (30, 0, 0)]


def test_every_sampling_parameter_reaches_the_engine_and_nothing_stops_an_answer_early(answerer):
    sampling = Sampling(max_new_tokens=11, temperature=0.6, top_p=0.9, top_k=40, presence_penalty=1.5)
    list(answerer.answers([asked("1")], sampling))
    params = answerer.llm.llm_engine.asked[0].params
    assert (params.temperature, params.top_p, params.top_k, params.presence_penalty) == (0.6, 0.9, 40, 1.5)
    assert params.max_tokens == 11
    assert params.stop is None


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, 0.0), (1e-6, 0.0), (1.0, 1.0)])
def test_a_temperature_near_zero_is_greedy_as_on_the_local_engine(answerer, ours, theirs):
    list(answerer.answers([asked("1")], Sampling(max_new_tokens=2, temperature=ours)))
    assert answerer.llm.llm_engine.asked[0].params.temperature == theirs


def test_every_question_has_its_own_seed(answerer):
    questions = [asked("1", row, seed=seed) for row in (0, 1) for seed in (0, 1)]
    list(answerer.answers(questions, GREEDY))
    seeds = [request.params.seed for request in answerer.llm.llm_engine.asked]
    assert seeds == [question.draw_seed for question in questions]
    assert len(set(seeds)) == 4


def test_special_tokens_but_the_end_are_never_sampled(answerer):
    list(answerer.answers([asked("1")], GREEDY))
    bias = answerer.llm.llm_engine.asked[0].params.logit_bias
    names = answerer.tokenizer.convert_ids_to_tokens(list(bias))
    assert {"<|endoftext|>", "<|im_start|>", "<|image_pad|>"} <= set(names)
    assert not {"<|im_end|>", "<think>", "1"} & set(names)
    assert set(bias.values()) == {-100.0}


def test_an_answer_is_truncated_at_the_limit_and_where_the_context_ends(answerer):
    # 19 tokens of template: 30 characters leave room for 11 of the 60
    questions = [asked("1" * 5, 0), asked("1" * 30, 1)]
    answers = {question.row: answer for question, answer in answerer.answers(questions, GREEDY)}
    assert answers[0] == Answer("11111", 24, 6, truncated=False)
    assert answers[1] == Answer("1" * 11, 49, 11, truncated=True)
    ((_, exact),) = answerer.answers([asked("1" * 5)], Sampling(max_new_tokens=5))
    assert exact == Answer("11111", 24, 5, truncated=True)


@pytest.mark.parametrize(("text", "images", "n_prompt"), [("1" * 41, 0, 60), ("1" * 42, 0, 61), ("1" * 36, 1, 61)])
def test_a_question_that_fills_the_context_is_an_empty_truncated_answer(answerer, text, images, n_prompt):
    long = asked(text, 0, (Image.new("RGB", (1, 1)),) * images)
    assert list(answerer.answers([long], GREEDY)) == [(long, Answer("", n_prompt, 0, truncated=True))]
    answers = {q.row: a.text for q, a in answerer.answers([asked("5", 1), long, asked("6", 2)], GREEDY)}
    assert answers == {0: "", 1: "5", 2: "6"}


def test_vllm_holds_a_few_questions_at_a_time_and_all_are_answered(vllm_model, answerer, monkeypatch):
    monkeypatch.setattr(vllm_model, "IN_FLIGHT", 3)
    answers = list(answerer.answers([asked(str(row % 10), row) for row in range(20)], GREEDY))
    assert sorted(question.row for question, _ in answers) == list(range(20))
    assert answerer.llm.llm_engine.most_running == 3


def test_answers_come_as_they_end_and_an_interrupted_round_leaves_nothing_in_the_engine(answerer):
    questions = [asked(str(row), row) for row in range(6)]
    answers = answerer.answers(questions, GREEDY)
    next(answers)
    assert len(answerer.llm.llm_engine.running) == 4, "the first answer does not wait for the others"
    answers.close()
    assert answerer.llm.llm_engine.running == {}
    again = {question.row: answer.text for question, answer in answerer.answers(questions, GREEDY)}
    assert again == {row: str(row) for row in range(6)}


def test_every_question_is_asked_with_the_adapter_and_without_one_there_is_none(vllm_model, tmp_path):
    folder = adapter(tmp_path / "lora", r=12)
    answerer = vllm_model.VllmAnswerer("m", adapter=folder)
    list(answerer.answers([asked("1"), asked("2", 1)], GREEDY))
    assert [request.lora for request in answerer.llm.llm_engine.asked] == [("adapter", 1, str(folder))] * 2
    assert answerer.llm.options["enable_lora"] is True
    assert answerer.llm.options["max_lora_rank"] == 16
    plain = vllm_model.VllmAnswerer("m")
    list(plain.answers([asked("1")], GREEDY))
    assert plain.llm.llm_engine.asked[0].lora is None
    assert "enable_lora" not in plain.llm.options


@pytest.mark.parametrize(
    ("config", "room"),
    [
        ({"r": 1}, 1),
        ({"r": 16}, 16),
        ({"r": 17}, 32),
        ({"r": 8, "rank_pattern": {"q_proj": 64}}, 64),
        ({"r": 512}, 512),
    ],
)
def test_room_is_made_for_the_largest_rank_of_an_adapter(vllm_model, tmp_path, config, room):
    assert vllm_model.lora_room(adapter(tmp_path / "lora", **config)) == room


@pytest.mark.parametrize("config", [{}, {"r": "many"}, {"r": 513}, {"r": None}, {"r": 8, "rank_pattern": [1]}])
def test_a_folder_that_holds_no_usable_adapter_is_refused_in_one_line(vllm_model, tmp_path, config):
    with pytest.raises(InputError, match=r"adapter_config\.json: expected .*") as refusal:
        vllm_model.VllmAnswerer("m", adapter=adapter(tmp_path / "lora", **config))
    assert "\n" not in str(refusal.value)


def test_an_adapter_that_vllm_silently_leaves_out_is_refused(vllm_model, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_model.LLM, "adapters_fit", False)
    with pytest.raises(InputError, match="changes nothing"):
        vllm_model.VllmAnswerer("m", adapter=adapter(tmp_path / "lora", r=8))


def test_a_model_that_cannot_be_loaded_is_one_line(vllm_model):
    with pytest.raises(InputError) as refusal:
        vllm_model.VllmAnswerer("nobody/nothing")
    assert str(refusal.value) == (
        "model 'nobody/nothing': expected a folder or a hub id that vLLM loads; no such model"
    )


def test_a_text_only_model_refuses_a_question_with_images(vllm_model, monkeypatch):
    monkeypatch.setattr(vllm_model.LLM, "multimodal", False)
    answerer = vllm_model.VllmAnswerer("m")
    assert [answer.text for _, answer in answerer.answers([asked("1")], GREEDY)] == ["1"]
    with pytest.raises(InputError, match="wemath 0: a text-only model"):
        list(answerer.answers([asked("1", images=(Image.new("RGB", (1, 1)),))], GREEDY))


def test_the_revision_and_the_precision_of_the_device_are_asked_for(vllm_model, monkeypatch):
    for gpu, device, precision in ((False, "cpu", "float32"), (True, "cuda", "bfloat16")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        answerer = vllm_model.VllmAnswerer("m", revision="abc")
        assert (answerer.backend, answerer.device) == ("vllm", device)
        assert answerer.llm.options["dtype"] == precision
        assert (answerer.llm.options["revision"], answerer.llm.options["tokenizer_revision"]) == ("abc", "abc")
        assert answerer.llm.options["max_model_len"] == -1, "whatever fits into memory"


@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_the_stand_in_has_the_names_and_ranks_of_the_real_one():
    import inspect

    from vllm import SamplingParams
    from vllm.config.lora import MaxLoRARanks
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    from eval.vllm_model import LORA_RANKS

    names = {field.name for field in dataclasses.fields(StandInParams)}
    assert names <= set(inspect.signature(SamplingParams).parameters)
    assert (
        list(inspect.signature(LLMEngine.add_request).parameters)[1:6]
        == list(inspect.signature(StandInEngine.add_request).parameters)[1:6]
    )
    assert {"max_model_len", "enable_lora", "max_lora_rank", "limit_mm_per_prompt"} <= {
        field.name for field in dataclasses.fields(EngineArgs)
    }
    assert typing.get_args(MaxLoRARanks) == LORA_RANKS


@pytest.mark.slow
@pytest.mark.skipif(not HAS_VLLM or torch.cuda.is_available(), reason="vLLM for CPUs is not installed")
def test_vllm_and_the_local_engine_say_the_same(tmp_path, monkeypatch):
    from core.pocket import model as pocket_model
    from core.pocket import pocket_problem
    from core.policy import Policy, load_pretrained
    from core.prompts import student_prompt
    from eval.model import LocalAnswerer
    from eval.vllm_model import VllmAnswerer

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setattr(pocket_model, "WIDTH", 128)  # heads of 32: vLLM has no CPU kernel for the pocket model's 24
    pocket_model.build_model(3).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    pocket_model.build_image_processor().save_pretrained(tmp_path)
    problems = [pocket_problem("validation", row, 0) for row in range(4)]
    questions = [Question("pocket", i, 0, student_prompt(p).messages, p.images) for i, p in enumerate(problems)]
    sampling = Sampling(max_new_tokens=24, temperature=0.0, presence_penalty=1.0)
    local = LocalAnswerer(Policy(*load_pretrained(str(tmp_path), torch.float32)))
    ours = {question.row: answer for question, answer in local.answers(questions, sampling)}
    assert {q.row: a for q, a in VllmAnswerer(str(tmp_path)).answers(questions, sampling)} == ours


@pytest.mark.parametrize("broken", ["RuntimeError", "EngineDeadError"])
def test_an_engine_that_breaks_down_is_told_and_asked_no_more(vllm_model, monkeypatch, broken):
    answerer = vllm_model.VllmAnswerer("model")
    engine = answerer.llm.llm_engine
    error = RuntimeError if broken == "RuntimeError" else vllm_model.EngineDeadError

    def step():
        raise error("head_dim=24 is not supported")

    def abort(names):
        assert not names, "a broken engine must not be asked to abort anything"

    monkeypatch.setattr(engine, "step", step)
    monkeypatch.setattr(engine, "abort_request", abort)
    with pytest.raises(EngineError, match="vLLM broke down: head_dim=24"):
        list(answerer.answers([asked("What?")], Sampling(8)))
