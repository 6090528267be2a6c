"""Small random checkpoints, each saved by the real library in the form that its users have them in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

os.environ["HF_HUB_OFFLINE"] = "1"

CORPUS = """
a photo of a dog, a cat and two zebras beside the weather-beaten cardboard box; it's the driver's, they'll see
un garçon déçu à l'été près du château; Ein Mädchen trägt Äpfel über die Straße; El niño comió piñas
собака и кошка сидят на траве; ο σκύλος και η γάτα; 一只狗坐在草地上 犬が草の上 개가 잔디에; هناك كلب; कुत्ता घास पर 😀
a person wearing a red jacket and blue jeans on a skateboard in front of a brick wall, 1984, 50% off
""".strip()

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
PREPROCESS = {
    "mean": [0.48, 0.46, 0.41],
    "std": [0.27, 0.26, 0.28],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "hybrid": {"image_size": 64, "timm_model_name": "fastvit_mci0", "timm_pool": "avg", "timm_proj": None},
    "siglip": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
}


def shaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random values where initialisation leaves zeros, ones, or statistics that training has never touched."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if not value.is_floating_point() or name.endswith(("logit_scale", "logit_bias", "attn_mask")):
                continue
            noise = torch.randn(value.shape, generator=random)
            if name.endswith("running_var"):
                value.copy_(0.8 + 0.4 * torch.rand(value.shape, generator=random))
            elif value.ndim <= 1 or name.endswith("gamma"):
                value.add_(0.1 * noise)
            elif float(value.std()) < 0.05:
                value.add_(0.05 * noise)
    return model.eval()


def openclip(folder: Path, kind: str) -> Path:
    """A directory as open_clip pushes it to a hub."""
    from edgeclip.build.checkpoints.torchvision_ops import declare_missing

    declare_missing()
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config: dict[str, Any] = {"embed_dim": 32, "vision_cfg": VISION[kind], "text_cfg": dict(TEXT)}
    facts: dict[str, Any] = dict(PREPROCESS)
    if kind == "hybrid":
        config["custom_text"] = True
        config["text_cfg"]["no_causal_mask"] = True
        facts |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"}
    folder.mkdir(parents=True)
    if kind == "siglip":
        config |= {"custom_text": True, "init_logit_bias": -10, "embed_dim": 64}
        config["text_cfg"] |= {
            "context_length": 64, "vocab_size": 600, "width": 64, "no_causal_mask": True, "proj_bias": True,
            "pool_type": "last", "hf_tokenizer_name": "timm/small", "tokenizer_kwargs": {"clean": "canonicalize"},
            "norm_kwargs": {"eps": 1e-6},
        }  # fmt: skip
        facts |= {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
        t5_tokenizer(600).save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": facts}))
    model = shaken(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def openai(path: Path, scripted: bool) -> Path:
    """An original archive: TorchScript with half-precision weights, or the same as a plain state dict."""
    from edgeclip.build.checkpoints.torchvision_ops import declare_missing

    declare_missing()
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}
    text = {**TEXT, "width": 64, "heads": 1}
    model: Any = shaken(open_clip.CLIP(32, vision, text, quick_gelu=True))
    if scripted:
        inputs = {"encode_image": torch.zeros(1, 3, 64, 64), "encode_text": torch.zeros(1, 77, dtype=torch.int64)}
        with torch.no_grad():
            torch.jit.trace_module(model, inputs, check_trace=False).save(str(path))
    else:
        torch.save({name: value.half() for name, value in model.state_dict().items()}, path)
    return path


def huggingface(folder: Path, kind: str) -> Path:
    """A directory as save_pretrained writes it: model, image processor, tokenizer."""
    from edgeclip.build.checkpoints.torchvision_ops import declare_missing

    declare_missing()
    import transformers

    torch.manual_seed(0)
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**text, "image_size": 64, "patch_size": 16}
    if kind == "clip":
        tokenizer = clip_tokenizer()
        text |= {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 77}
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
        model: Any = transformers.CLIPModel(config)
        processor: Any = transformers.CLIPImageProcessor(
            size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, resample=3
        )
    elif kind == "siglip":
        tokenizer = siglip_tokenizer(folder.parent / f"{folder.name}-spm")
        text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 64}
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(config)
        processor = transformers.SiglipImageProcessor(size={"height": 64, "width": 64})
    else:
        tokenizer = gemma_tokenizer()
        text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 64}
        del vision["image_size"]
        vision["num_patches"] = 36
        config = transformers.Siglip2Config(text_config=text, vision_config=vision)
        model = transformers.Siglip2Model(config)
        processor = transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16)
    shaken(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def clip_tokenizer() -> Any:
    import tokenizers
    import transformers

    library = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    fresh = transformers.CLIPTokenizer()
    library.normalizer = fresh.backend_tokenizer.normalizer
    library.pre_tokenizer = fresh.backend_tokenizer.pre_tokenizer
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    library.train_from_iterator(CORPUS.splitlines(), trainer)
    trained = json.loads(library.to_str())["model"]
    vocab: dict[str, int] = {letter: i for i, letter in enumerate(letters)}
    for token in (*(letter + "</w>" for letter in letters), *("".join(merge) for merge in trained["merges"])):
        vocab.setdefault(token, len(vocab))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    merges = [tuple(merge) for merge in trained["merges"]]
    return transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def spiece_model(folder: Path, vocabulary: int) -> Path:
    """A SentencePiece unigram model with the normalization that T5's has, trained on the corpus."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.txt").write_text(CORPUS * 3, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "spiece"), vocab_size=vocabulary,
        hard_vocab_limit=False, pad_id=-1, bos_id=-1, eos_id=1, unk_id=2, user_defined_symbols=["<pad>"],
        normalization_rule_name="nmt_nfkc", character_coverage=0.999, minloglevel=2,
    )  # fmt: skip
    return folder / "spiece.model"


def siglip_tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.SiglipTokenizer(vocab_file=str(spiece_model(folder, 300)))


def t5_tokenizer(vocabulary: int) -> Any:
    """The fast tokenizer that open_clip's SigLIP directories carry."""
    import tempfile

    import transformers
    from sentencepiece import sentencepiece_model_pb2 as schema

    with tempfile.TemporaryDirectory() as folder:
        proto = schema.ModelProto()
        proto.ParseFromString(spiece_model(Path(folder), 300).read_bytes())
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    return transformers.T5Tokenizer(
        vocab=pieces, extra_ids=0, pad_token="</s>", model_max_length=64,
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap,
    )  # fmt: skip


def gemma_tokenizer() -> Any:
    """BPE over whole sentences with byte fallback, as SigLIP2 has it."""
    import tokenizers
    import transformers

    library = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    library.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    library.train_from_iterator(CORPUS.splitlines(), trainer)
    trained = json.loads(library.to_str())["model"]
    vocab = dict(trained["vocab"])
    for octet in range(256):
        vocab.setdefault(f"<0x{octet:02X}>", len(vocab))
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer = transformers.Siglip2Tokenizer(
        vocab=vocab, merges=merges, padding_side="right", model_max_length=64, add_bos_token=False, add_eos_token=True
    )
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", special_tokens=[("<eos>", 1)]
    )
    return tokenizer
