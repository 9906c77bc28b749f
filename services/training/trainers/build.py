"""From parameters, model and data to a trainer that is ready to run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from services.training.batches import PairCollator, SupervisedCollator
from services.training.models.compiling import compile_layers
from services.training.models.loading import training_device
from services.training.reference import ReferenceLogProbabilities, with_reference
from services.training.trainers.arguments import training_arguments
from services.training.trainers.pairs import OddsRatioTrainer, PreferenceTrainer
from services.training.trainers.reward import ScoreTrainer
from services.training.trainers.supervised import SupervisedTrainer
from shared.domain.training import Method, TrainParameters

TRAINERS = {
    Method.SFT: SupervisedTrainer,
    Method.DPO: PreferenceTrainer,
    Method.ORPO: OddsRatioTrainer,
    Method.REWARD: ScoreTrainer,
}


class TrainingData(Protocol):
    """Tokenised rows, as `services.training.data` prepares them."""

    @property
    def train(self) -> Dataset:
        """Rows that are trained on."""

    @property
    def test(self) -> Dataset | None:
        """Rows that are evaluated on."""


def build_trainer(
    parameters: TrainParameters,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    output_folder: Path,
    callbacks: Sequence[TrainerCallback],
    reference: ReferenceLogProbabilities | None,
    *,
    recompute: bool | None = None,
) -> Trainer:
    """The trainer of the parameters' method; `train()` runs it, also on from a checkpoint.

    `recompute` says whether layers are computed again in backward to save memory; None takes it from the parameters, where
    `auto` counts as no. Test rows are evaluated on every `evaluate_every_steps` and after the last step.

    Raises ValueError where DPO comes without reference log-probabilities, or another method with them.
    """
    if (reference is not None) != (parameters.method is Method.DPO):
        raise ValueError(
            f"method is {parameters.method.value}, and reference log-probabilities are {'given' if reference else 'missing'}; "
            "dpo needs them, and no other method"
        )
    train, test = data.train, data.test
    if reference is not None:
        train = with_reference(train, reference.train)
        test = None if test is None else with_reference(test, reference.test)
    arguments = training_arguments(
        parameters,
        output_folder,
        training_device(),
        recompute=parameters.recompute == "always" if recompute is None else recompute,
        evaluates=test is not None,
        use_cache=bool(model.config.use_cache),
    )
    if parameters.compile:
        compile_layers(model)
    if parameters.method is Method.SFT:
        collator: SupervisedCollator | PairCollator = SupervisedCollator()
    else:
        collator = PairCollator(learns_prompts=parameters.method is Method.ORPO)
    trainer: Trainer = TRAINERS[parameters.method](
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
