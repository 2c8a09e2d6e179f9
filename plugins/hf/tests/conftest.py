"""A real tokenizer trained on a few words, a real Llama small enough for seconds on a CPU, and small datasets."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import attrs
import psutil
import pytest

from tunewright import TrainRun
from tunewright.environment import Paths
from tunewright.events import Event, Step, parse_event
from tunewright.providers import MixturePart, wire
from tunewright.providers.mixture import dump_mixture
from tunewright.runner import Failure
from tunewright.runner.checkpoints import newest_checkpoint
from tunewright_hf import HuggingFaceTrainParams

# Before torch is imported: several test processes share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [f"What is {n} and {n}? The sum of {n} and {n} is {n + n}." for n in range(60)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers and 64 dimensions with its byte-level BPE tokenizer, saved by the real classes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("inputs") / "model"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def dataset_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows into a JSONL file of a new dataset folder."""

    def write(rows: list[dict[str, object]], *, name: str = "dataset", file: str = "data.jsonl") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def sums() -> Callable[[int], list[dict[str, object]]]:
    """Rows of prompt and completion."""

    def rows(count: int) -> list[dict[str, object]]:
        return [{"prompt": f"What is {n} and {n}?", "completion": f" The sum is {n + n}."} for n in range(count)]

    return rows


@attrs.frozen
class Training:
    """What a training left."""

    output: Path
    events: list[dict[str, object]]

    @property
    def result(self) -> Path:
        return self.output / "model"

    def of(self, event: str) -> list[dict[str, object]]:
        return [e for e in self.events if e["event"] == event]

    @property
    def losses(self) -> dict[int, float]:
        """By step."""
        return {int(e["step"]): float(e["loss"]) for e in self.of("step")}


class Cut(Exception):  # noqa: N818 - no error: it is what the test wants
    """Stands for a crash."""


@pytest.fixture(scope="session")
def train(model_folder: Path) -> Callable[..., Training]:
    """Trains in this process; a crash, or SIGTERM, follows the first event of the name and step that is given."""

    def call(
        output: Path,
        dataset: Path | tuple[MixturePart, ...],
        *,
        eval_dataset: Path | None = None,
        model: Path | None = None,
        adapter: Path | None = None,
        cut_at=None,
        terminate_at=None,
        **given,
    ) -> Training:
        events: list[dict[str, object]] = []

        def emit(sent: Event) -> None:
            event = sent.to_dict()
            events.append(event)
            if cut_at == (event["event"], event.get("step")):
                raise Cut
            if terminate_at == (event["event"], event.get("step")):
                group = [p for p in psutil.Process().children() if os.getpgid(p.pid) == os.getpgrp()]
                for process in (*group, psutil.Process()):  # as torchrun does, but for pytest
                    process.terminate()

        output.mkdir(exist_ok=True)
        run = TrainRun(
            model=model or model_folder,
            adapter=adapter,
            dataset=dataset if isinstance(dataset, Path) else None,
            mixture=() if dataset is None or isinstance(dataset, Path) else dataset,
            eval_dataset=eval_dataset,
            output=output,
            resume_from=newest_checkpoint(output / "checkpoints"),
            emit=emit,
        )
        handler = signal.getsignal(signal.SIGTERM)
        try:
            HuggingFaceTrainParams(**given).train(run)
        except Cut:
            pass
        else:
            assert cut_at is None, "the training was to be cut off"
        finally:
            signal.signal(signal.SIGTERM, handler)  # an error leaves it to the launcher
        return Training(output, events)

    return call


@pytest.fixture(scope="session")
def qa(tmp_path_factory: pytest.TempPathFactory, sums: Callable[[int], list[dict[str, object]]]) -> Path:
    """41 rows to train on, a number that no batch divides, and 11 to evaluate on; their lengths differ."""
    folder = tmp_path_factory.mktemp("data") / "qa"
    folder.mkdir()
    rows = sums(52)
    for i, row in enumerate(rows):
        row["prompt"] = str(row["prompt"]) + " What is the sum?" * (i % 4)
    for name, part in (("train", rows[:41]), ("validation", rows[41:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three datasets in three formats: 30 questions with answers, 12 chats, and 7 texts; two have rows to evaluate on."""
    sums = [{"question": f"What is {n} and {n}?", "answer": f"The sum is {n + n}."} for n in range(36)]
    talks = [("user", "What is {n}?"), ("assistant", "{n} is the sum.")]
    chats = [{"messages": [{"role": r, "content": c.format(n=n)} for r, c in talks]} for n in range(16)]
    texts = [{"text": f"The sum of {n} and 1 is {n + 1}. " * (n % 3 + 1)} for n in range(7)]
    parts = {"sums": (sums[:30], sums[30:]), "chats": (chats[:12], chats[12:]), "texts": (texts, [])}
    folder = tmp_path_factory.mktemp("sources")
    for name, splits in parts.items():
        (folder / name).mkdir()
        for split, rows in zip(("train", "validation"), splits, strict=True):
            if rows:
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                (folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return {name: folder / name for name in parts}


@pytest.fixture(scope="session")
def mixture(sources: dict[str, Path]) -> Callable[..., tuple[MixturePart, ...]]:
    """Makes the parts of a mixture of `sources` from their weights, which are given by name."""

    def make(*, once: tuple[str, ...] = (), **weights: float | None) -> tuple[MixturePart, ...]:
        return tuple(
            MixturePart(slot=f"dataset_{i}", name=name, weight=weight, repeat=name not in once, folder=sources[name])
            for i, (name, weight) in enumerate(weights.items(), start=1)
        )

    return make


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "bert": {**SIZES, "max_position_embeddings": 48, "initializer_range": 0.2},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "seq_classif_dropout": 0.0}
    | {"initializer_range": 0.2},
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0},
    "bart": {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_layers": 1, "decoder_layers": 1}
    | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}
    | {"init_std": 0.2},
    "xlnet": {"d_model": 32, "d_inner": 64, "n_layer": 2, "n_head": 4, "summary_last_dropout": 0.0}
    | {"initializer_range": 0.2},
}


@pytest.fixture(scope="session")
def base_of(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of a family as people find it: the bare model, or with the head of language models; "llama" is `model_folder`.

    Its tokenizer puts <s> before and </s> behind a text, and pads with a token of its own.
    """
    import torch
    import transformers

    made = {"llama": model_folder}

    def make(name: str) -> Path:
        if name not in made:
            from tokenizers.processors import TemplateProcessing

            made[name] = tmp_path_factory.mktemp(name) / "model"
            tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
            )
            tokenizer.pad_token = "<|system|>"
            tokenizer.save_pretrained(made[name])
            ids = {"pad_token_id": 4, "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 4}
            config = transformers.AutoConfig.for_model(
                name, vocab_size=len(tokenizer), **{**NO_DROPOUT, **FAMILIES[name], **ids}
            )
            writes = name in ("t5", "bart")
            torch.manual_seed(0)
            auto = transformers.AutoModelForSeq2SeqLM if writes else transformers.AutoModel
            auto.from_config(config).save_pretrained(made[name])
        return made[name]

    return make


@pytest.fixture
def classified(dataset_of: Callable[..., Path]) -> Path:
    """21 rows to classify, a number that no batch divides, and 5 to evaluate on."""
    words, labels = ("sum", "odd"), ("even", "odd")
    rows = [{"text": f"{words[n % 2]} {n}" + " What" * (n % 3), "label": labels[n % 2]} for n in range(21)]
    dataset_of(rows[:5], name="classified", file="validation.jsonl")
    return dataset_of(rows, name="classified", file="train.jsonl")


# The launcher's `train`, which writes down what its rank was given to train on.
RANK = """
import json, os, sys
from tunewright_hf.data.samples.collators import Collator
from tunewright_launcher.cli import main

collate, seen = Collator.__call__, []
def watched(self, samples):
    batch = collate(self, samples)
    lengths = batch["cu_seq_lens_q"].diff().tolist()
    ids, labels = (batch[key][0].split(lengths) for key in ("input_ids", "labels"))
    seen.extend(i.tolist() for i, l in zip(ids, labels) if (l != -100).any())
    return batch
Collator.__call__ = watched
code = main(["train"])
open(os.environ["TUNEWRIGHT_WORKSPACE"] + "/seen-" + os.environ["RANK"], "w").write(json.dumps(seen))
sys.exit(code)
"""


# For callbacks=["killed:Killed"].
KILLED = """
import os, signal
from transformers import TrainerCallback

class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        last = args.process_index == args.world_size - 1
        if state.global_step == 8 and last and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@attrs.frozen
class Job:
    """The folders of a job and the command that runs it, as a backend makes them; `node`: the arguments of one of several."""

    workspace: Path
    processes: int
    max_restarts: int = 3
    node: tuple[str, ...] = ()
    started: list[psutil.Process] = attrs.field(factory=list, eq=False)

    def start(self) -> subprocess.Popen[str]:
        folders = {f.name: self.workspace / f".{f.name}" for f in attrs.fields(Paths) if f.name != "elsewhere"}
        paths = Paths(**{**folders, "workspace": self.workspace, "config": self.workspace / "config"})
        paths.run.mkdir(exist_ok=True)
        world = {"TUNEWRIGHT_MAX_RESTARTS": str(self.max_restarts)}
        world |= {} if self.node else {"TUNEWRIGHT_WORLD_SIZE": str(self.processes)}
        env = {
            **os.environ,
            **paths.to_env(),
            **world,
            "OMP_NUM_THREADS": "1",
            "PET_NPROC_PER_NODE": str(self.processes),
        }
        node = self.node or ("--standalone",)
        torchrun = ["torchrun", *node, "--max-restarts=0", str(self.workspace / "rank.py")]
        command = [sys.executable, "-m", "tunewright_launcher", "run", "--", *torchrun]
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=self.workspace)
        self.started.append(psutil.Process(process.pid))
        return process

    def end(self) -> None:
        """End what still runs, as a test that failed leaves it."""
        for process in self.started:
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in (*process.children(recursive=True), process):
                    one.kill()

    def finish(self) -> list[dict[str, object]]:
        process = self.start()
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0
        return [e.to_dict() for line in output.splitlines() if (e := parse_event(line))]

    def finish_after_a_kill(self) -> list[dict[str, object]]:
        """Have the last rank killed behind the eighth step, and start the job again."""
        (self.workspace / "killed.py").write_text(KILLED)
        run = self.start()
        before, _ = run.communicate(timeout=400)
        assert run.returncode == 129
        return [*(e.to_dict() for line in before.splitlines() if (e := parse_event(line))), *self.finish()]

    def be_told_to_end(self) -> int:
        """Start the job, send it SIGTERM behind the fifth step, and wait for its end; returns the last step that it made."""
        run = self.start()
        steps = (event.step for line in run.stdout if isinstance(event := parse_event(line), Step))
        last = next(step for step in steps if step >= 5)
        run.terminate()
        last = max([last, *steps])
        assert run.wait(120) == 143
        return last

    @property
    def message(self) -> str:
        """The termination message: why it failed."""
        return str(Failure.from_message((self.workspace / ".termination_log").read_text(), 1))

    @property
    def weights(self) -> dict[str, object]:
        import safetensors.torch as safetensors

        (file,) = (self.workspace / "output" / "model").glob("*model.safetensors")
        return safetensors.load_file(file)


@pytest.fixture
def job(tmp_path: Path, model_folder: Path, qa: Path) -> Iterator[Callable[..., Job]]:
    """Makes jobs of several processes: torchrun, the launcher's `train` on every rank, gloo on loopback."""
    made: list[Job] = []

    def make(
        name: str,
        processes: int,
        *,
        model: Path = model_folder,
        dataset: Path | tuple[MixturePart, ...] = qa,
        adapter: Path | None = None,
        max_restarts: int = 3,
        **given: object,
    ) -> Job:
        folder = tmp_path / name
        for part in ("config", "output"):
            (folder / part).mkdir(parents=True)
        (folder / "model").symlink_to(model)
        if adapter is not None:
            (folder / "adapter").symlink_to(adapter)
        if isinstance(dataset, Path):
            (folder / "dataset").symlink_to(dataset)
        else:
            (folder / "config" / "mixture.json").write_text(dump_mixture(dataset))
            for part in dataset:
                (folder / part.slot).symlink_to(part.folder)
        (folder / "rank.py").write_text(RANK)
        params = wire.unstructure(HuggingFaceTrainParams(**given), "trainer")
        document = wire.WireDocument(
            kind="trainer", provider="hf", distribution="tunewright-hf", version=version("tunewright-hf"), params=params
        )
        (folder / "config" / "trainer.json").write_text(document.dumps())
        made.append(Job(folder, processes, max_restarts))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def independent_eval_loss() -> Callable[[object, Path, Path], float]:
    """The mean over all completion tokens and ends, sample by sample, from the files and the tokenizer alone."""
    import torch
    import transformers

    def call(model, folder: Path, dataset: Path) -> float:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        total, count = 0.0, 0
        for line in (dataset / "validation.jsonl").read_text().splitlines():
            row = json.loads(line)
            prompt = tokenizer(row["prompt"])["input_ids"]
            ids = [*prompt, *tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
            with torch.no_grad():
                scores = model.eval()(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            for i in range(len(prompt), len(ids)):
                total -= scores[i - 1, ids[i]].item()
                count += 1
        return total / count

    return call
