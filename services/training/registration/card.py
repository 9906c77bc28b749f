"""Renders the model card: `README.md` with the YAML front matter that the Hub reads."""

import re
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from transformers import PreTrainedTokenizerBase

from services.training.registration.record import RECORD_NAME, ModelRecord

CARD_NAME = "README.md"

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")

_METHODS = {
    "sft": "A language model trained on responses to system messages that state one person's preferences (SFT).",
    "dpo": "A language model trained to prefer the answer that serves the stated preferences (DPO).",
    "orpo": "A language model trained on responses and on preferring them in one go (ORPO).",
    "rm": "A reward model: it scores how well an answer serves the preferences that the system message states.",
}

_TUNINGS = {
    "full": "all",
    "lora": "low-rank adapters",
    "qlora": "low-rank adapters on a base in 4 bits",
}


def render_card(record: ModelRecord, tokenizer: PreTrainedTokenizerBase) -> str:
    """The card of a model. Values are shown as text: nothing in them becomes markup."""
    chat_template = tokenizer.chat_template
    assert isinstance(chat_template, str)
    return (
        _environment()
        .get_template("README.md.j2")
        .render(
            record=record,
            record_name=RECORD_NAME,
            front_matter=front_matter(record),
            sentence=_METHODS[record.method],
            tuning=_TUNINGS[record.tuning] + (", not merged into the base" if record.adapter_only else ""),
            base=_base(record),
            auto_class="AutoModelForSequenceClassification" if record.method == "rm" else "AutoModelForCausalLM",
            parameters=yaml.safe_dump(record.parameters, sort_keys=False, allow_unicode=True, width=120),
            chat_template=chat_template,
            prompt_example=_prompt_example(tokenizer, with_answer=record.method == "rm"),
        )
    )


def front_matter(record: ModelRecord) -> str:
    """The card's YAML. A base or data set is named only where it is one of the Hub."""
    content: dict[str, Any] = {"library_name": "peft" if record.adapter_only else "transformers"}
    if record.base.source == "hub":
        content["base_model"] = record.base.name
        content["base_model_relation"] = "adapter" if record.adapter_only else "finetune"
    content["pipeline_tag"] = "text-classification" if record.method == "rm" else "text-generation"
    content["tags"] = [
        "multifacet",
        "system-message",
        record.method,
        *([] if record.tuning == "full" else [record.tuning]),
        *(["random-weights"] if record.random_weights else []),
        *(["simulator"] if record.data.simulator else []),
    ]
    if record.data.hub_data_sets:
        content["datasets"] = list(record.data.hub_data_sets)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


def _base(record: ModelRecord) -> str:
    base = record.base
    kinds = {
        "stage": "the training",
        "registry": "the registered model",
        "folder": "the model in folder",
        "hub": "the Hub's model",
        "random": "random weights of the architecture",
    }
    return f"{kinds[base.source]} {base.name}" + (f", revision {base.revision}" if base.revision else "")


def _prompt_example(tokenizer: PreTrainedTokenizerBase, *, with_answer: bool) -> str:
    messages = [
        {"role": "system", "content": "(system message)"},
        {"role": "user", "content": "(instruction)"},
    ]
    if with_answer:
        messages.append({"role": "assistant", "content": "(answer)"})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not with_answer))


def _text(value: object) -> str:
    """One line of Markdown that shows the value and does nothing else."""
    line = " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _fenced(text: str, language: str = "text") -> str:
    """A block of code whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.training.registration", "templates"),
        autoescape=False,  # noqa: S701 - Markdown, not HTML: every value goes through `text` or `fenced`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        text=_text, fenced=_fenced, count=lambda number: f"{number:,}", percent=lambda share: f"{share:.2%}"
    )
    return environment
