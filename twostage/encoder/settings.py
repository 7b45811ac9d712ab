"""What decides a text's vector, besides the text: the encoder half of a cache's identity. Knows files, no torch."""

import re
from pathlib import Path

from twostage.encoder.checkpoint import digest_files
from twostage.encoder.family import check_max_length, read_config
from twostage.errors import BadInput

# Of vectors; what moves them by more than float32's rounding makes a new one: 2 is bfloat16 with a float32 residual stream, 3 bfloat16
# with fused attention, 4 with fused products, 5 with GELU piece by piece and the feed-forward's sums in float32, 6 with all of these
# where widths fill no registers.
FORMATS = (1, 2, 3, 4, 5, 6)
ENCODER_FIELDS = ("weights", "config", "tokenizer", "max_length", "truncation", "pooling", "compute_dtype", "format")
OPTIONAL = {"prefix": "", "layer": "-1"}  # left out while so, that a setting new today leaves old fingerprints as they are
POOLINGS = ("cls", "pooler", "mean", "max")
TRUNCATIONS = ("head", "tail", "head-tail")
NUMBERS = ("max_length", "format")  # the other fields are strings
TEXT_LIMIT = 4096  # bytes of one setting
SHOWN = 60  # characters of a value in a message


def encoder_settings(folder: Path, *, max_length: int, truncation: str, pooling: str, compute_dtype: str, **optional) -> dict:
    """The settings that decide a text's vector, by the names of ENCODER_FIELDS and OPTIONAL; BadInput for an impossible one."""
    check_max_length(folder, max_length)
    check_view(folder, pooling, int(optional.get("layer", -1)))
    for name, value in optional.items():
        if value != OPTIONAL[name] and not fits_field(name, value):
            raise BadInput(f"--{name} {short(value)}: give text without NUL, of at most {TEXT_LIMIT:,} bytes")
    how = {"max_length": max_length, "truncation": truncation, "pooling": pooling, "compute_dtype": compute_dtype}
    return digest_files(folder) | how | {"format": 6 if compute_dtype == "bfloat16" else 1} | given(optional)


def check_view(folder: Path, pooling: str, layer: int) -> None:
    """BadInput for vectors that the model in `folder` does not have."""
    most = read_config(folder)["num_hidden_layers"]
    if pooling not in POOLINGS:
        raise BadInput(f"--pooling {short(pooling)}: give {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}")
    if not -most <= layer <= -1:
        raise BadInput(f"--layer {layer}: {folder} has {most} layers; give -1 (the last) to -{most}")
    if pooling == "pooler" and layer != -1:
        raise BadInput(f"--pooling pooler --layer {layer}: the pooler belongs to the last layer; give cls, mean or max")


def view_of(settings: dict) -> tuple[str, int]:
    """(pooling, layer) of encoder settings; the last layer is -1, the one before it -2."""
    return settings["pooling"], int(settings.get("layer", OPTIONAL["layer"]))


def given(settings: dict) -> dict:
    """Those of the OPTIONAL settings that do not have their default."""
    return {name: settings[name] for name, default in OPTIONAL.items() if settings.get(name, default) != default}


def fits_field(name: str, value: object) -> bool:
    """Whether an encoder setting has the type and size that the cache file keeps."""
    if name in NUMBERS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if name == "layer":
        return isinstance(value, str) and re.fullmatch("-[1-9][0-9]{0,2}", value) is not None
    if not isinstance(value, str) or "\0" in value or re.search("[\ud800-\udfff]", value) and name in OPTIONAL:
        return False
    return 0 < len(value.encode("utf-8", "replace")) <= TEXT_LIMIT


def differences(have: dict, asked: dict, names: tuple[str, str] = ("cache", "asked")) -> list[str]:
    """The fields that differ: ["max_length: cache 256, asked 512"]. Digests are cut to 12 digits."""
    fields = [*have, *(name for name in asked if name not in have)]
    return [
        f"{field}: {names[0]} {short(have.get(field, 'none'))}, {names[1]} {short(asked.get(field, 'none'))}"
        for field in fields
        if have.get(field) != asked.get(field)
    ]


def short(value) -> str:
    """A value fit for a message: harmless, a digest cut to 12 digits, anything else to SHOWN characters."""
    text = value if isinstance(value, str) else str(value)
    if len(text) == 64 and not text.strip("0123456789abcdef"):
        return text[:12] + "…"
    text = text if text.isprintable() and text else ascii(text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
